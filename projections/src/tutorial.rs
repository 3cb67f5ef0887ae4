//! The view of the guide (`docs/event-log.md`), kept where it compiles and runs. No part of the product: it has no table.

use chrono::{DateTime, Utc};
use domain::{
    event::{EventSet, LogPosition, RecordedEvent},
    ids::WorkspaceId,
    plan::PlanEvent,
    sealed::Sealed,
};
use uuid::Uuid;

use crate::{
    fault::Fault,
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    /// What a workspace had planned by one planner.
    pub struct PlannerUseView in "planner_use" by ["workspace_id", "planner"]
        = |row| Key::pair(row.workspace_id, row.planner.as_str());
    {
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        /// `llm` or `offline`.
        pub planner: String,
        pub plans: i64,
        pub last_at: DateTime<Utc>,
    }
}

#[derive(Default)]
pub(crate) struct PlannerUse {
    rows: Table<PlannerUseView>,
}

impl View for PlannerUse {
    fn name(&self) -> &'static str {
        "planner_use"
    }

    fn events(&self) -> &'static [&'static str] {
        &["plan.drafted"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        if let Fact::Plan(PlanEvent::Drafted { planner, .. }) = item.fact()? {
            self.rows.want(Key::pair(item.recorded.workspace_id, planner));
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.rows]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let Fact::Plan(PlanEvent::Drafted { planner, .. }) = item.fact()? else { return Ok(()) };
        match self.rows.change(&Key::pair(recorded.workspace_id, planner)) {
            Some(row) => {
                row.plans += 1;
                row.last_at = recorded.recorded_at;
            }
            None => self.rows.put(PlannerUseView {
                workspace_id: WorkspaceId(recorded.workspace_id),
                planner: planner.clone(),
                plans: 1,
                last_at: recorded.recorded_at,
            }),
        }
        Ok(())
    }
}

/// An event as the log would give it.
fn drafted(position: i64, planner: &str) -> Item {
    fn sealed<T>() -> Sealed<T> {
        Sealed::from_parts("workspace:x".into(), 1, "bm9uY2U=".into(), "eA==".into())
    }
    let event = PlanEvent::Drafted {
        message: sealed(),
        planner: planner.into(),
        workflow: sealed(),
        plan_hash: String::new(),
        confidence: 0.5,
        writes: false,
        candidates: vec![],
    };
    Item::of(RecordedEvent {
        at: LogPosition { generation: 1, transaction_id: 7, position },
        workspace_id: Uuid::from_u128(1),
        aggregate_type: "plan".into(),
        aggregate_id: Uuid::from_u128(position as u128),
        sequence: 1,
        event_type: "plan.drafted".into(),
        event_version: "1".into(),
        payload: event.encode().unwrap(),
        metadata: "{}".into(),
        event_id: Uuid::from_u128(position as u128),
        recorded_at: DateTime::from_timestamp(1_800_000_000 + position, 0).unwrap(),
    })
}

#[test]
fn plans_are_counted_by_planner() {
    let mut view = PlannerUse::default();
    for item in [drafted(1, "llm"), drafted(2, "offline"), drafted(3, "llm")] {
        assert!(view.handles(&item.recorded.event_type));
        view.want(&item).unwrap();
        view.fold(&item).unwrap();
    }
    let row = |planner: &str| view.rows.get(&Key::pair(Uuid::from_u128(1), planner)).unwrap();
    assert_eq!((row("llm").plans, row("offline").plans), (2, 1));
    assert_eq!(row("llm").last_at.timestamp(), 1_800_000_003);
}
