//! The sandbox CRM: customers and their orders, behind an API key in `X-CRM-Key`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Endpoint, EndpointExt, Error, Request, Response, Route, get, handler};
use serde::Serialize;
use serde_json::{Value, json};

use super::fields::Fields;
use super::{answer, not_found, now, problem};

/// Customers kept beside the first ones; the oldest goes when another one comes.
const MAX_CREATED: usize = 1_000;
const PLANS: [&str; 3] = ["free", "team", "enterprise"];

/// As in the document's `Customer`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Customer {
    id: String,
    name: String,
    email: String,
    company: Option<String>,
    plan: String,
    created_at: String,
}

/// As in the document's `Order`; `amount` in units of `currency`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    id: &'static str,
    customer_id: &'static str,
    item: &'static str,
    amount: f64,
    currency: &'static str,
    status: &'static str,
    placed_at: &'static str,
}

/// id, name, e-mail, company, plan, since when. The domains are reserved for examples.
const SEED: [[&str; 6]; 5] = [
    ["cus_1001", "Maria Oliveira", "maria.oliveira@example.com", "Padaria Central", "team", "2025-11-03T09:15:00Z"],
    ["cus_1002", "Jonas Weber", "jonas.weber@example.org", "Weber Fahrradbau", "enterprise", "2025-12-11T14:40:00Z"],
    ["cus_1003", "Aiko Tanaka", "aiko.tanaka@example.net", "Tanaka Ceramics", "free", "2026-01-22T02:05:00Z"],
    ["cus_1004", "Samuel Adeyemi", "samuel.adeyemi@example.com", "Lagos Solar", "team", "2026-02-09T11:30:00Z"],
    ["cus_1005", "Chloé Martin", "chloe.martin@example.org", "Atelier Martin", "free", "2026-03-17T16:55:00Z"],
];

/// id, customer, item, amount, status, when.
const ORDERS: [(&str, &str, &str, f64, &str, &str); 6] = [
    ("ord_5001", "cus_1001", "Team plan, 12 months", 588.0, "paid", "2025-11-03T09:20:00Z"),
    ("ord_5002", "cus_1001", "Onboarding workshop", 350.0, "paid", "2025-11-20T10:00:00Z"),
    ("ord_5003", "cus_1002", "Enterprise plan, 12 months", 4800.0, "paid", "2025-12-12T08:00:00Z"),
    ("ord_5004", "cus_1002", "Extra seats (10)", 720.0, "open", "2026-02-02T13:45:00Z"),
    ("ord_5005", "cus_1004", "Team plan, 1 month", 49.0, "refunded", "2026-02-09T11:35:00Z"),
    ("ord_5006", "cus_1004", "Team plan, 12 months", 588.0, "paid", "2026-02-15T09:10:00Z"),
];

struct Crm {
    state: Mutex<State>,
}

struct State {
    seeded: Vec<Customer>,
    created: VecDeque<Customer>,
    next_id: u64,
}

impl Crm {
    fn new() -> Self {
        let seeded = SEED.map(|[id, name, email, company, plan, created_at]| Customer {
            id: id.into(),
            name: name.into(),
            email: email.into(),
            company: Some(company.into()),
            plan: plan.into(),
            created_at: created_at.into(),
        });
        Self { state: Mutex::new(State { seeded: seeded.into(), created: VecDeque::new(), next_id: 2_001 }) }
    }

    /// A panic elsewhere leaves the lists whole, so a poisoned lock is still good.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn customers(&self) -> impl Iterator<Item = &Customer> {
        self.seeded.iter().chain(&self.created)
    }

    fn find(&self, id: &str) -> Option<&Customer> {
        self.customers().find(|customer| customer.id == id)
    }
}

/// The CRM's routes, to be nested under `/crm`, with fresh data.
pub(super) fn routes(document: Value) -> impl Endpoint<Output = Response> + 'static {
    let guarded = Route::new()
        .at("/", get(list_customers).post(create_customer))
        .at("/:customer_id", get(get_customer))
        .at("/:customer_id/orders", get(list_orders))
        .data(Arc::new(Crm::new()))
        .around(|next, request| async move {
            check_key(&request)?;
            next.call(request).await
        });
    let document = poem::endpoint::make_sync(move |_| answer(StatusCode::OK, &document));
    Route::new().at("/openapi.json", get(document)).nest("/customers", guarded).map_to_response()
}

/// Any key that begins with `crm_` will do.
fn check_key(request: &Request) -> Result<(), Error> {
    match request.header("x-crm-key") {
        Some(key) if key.len() > 4 && key.starts_with("crm_") => Ok(()),
        _ => {
            let message = "send an API key that begins with crm_ in the header X-CRM-Key";
            Err(Error::from_response(problem(StatusCode::UNAUTHORIZED, "unauthorized", message, &[])))
        }
    }
}

#[handler]
fn list_customers(request: &Request, Data(crm): Data<&Arc<Crm>>) -> Result<Response, Error> {
    let mut query = Fields::from_query(request)?;
    let (email, search, limit) = (query.text("email"), query.text("search"), query.limit());
    query.finish()?;
    let search = search.map(|text| text.to_lowercase());
    let state = crm.state();
    let matching: Vec<&Customer> = state
        .customers()
        .filter(|customer| email.as_ref().is_none_or(|email| customer.email.eq_ignore_ascii_case(email)))
        .filter(|customer| search.as_ref().is_none_or(|text| mentions(customer, text)))
        .collect();
    let page = &matching[..limit.min(matching.len())];
    Ok(answer(StatusCode::OK, &json!({ "customers": page, "total": matching.len() })))
}

/// Whether name, e-mail or company holds the text (given in lower case).
fn mentions(customer: &Customer, text: &str) -> bool {
    [Some(&customer.name), Some(&customer.email), customer.company.as_ref()]
        .into_iter()
        .flatten()
        .any(|value| value.to_lowercase().contains(text))
}

#[handler]
fn get_customer(Path(id): Path<String>, Data(crm): Data<&Arc<Crm>>) -> Response {
    match crm.state().find(&id) {
        Some(customer) => answer(StatusCode::OK, &json!(customer)),
        None => not_found("customer"),
    }
}

#[handler]
async fn create_customer(body: Body, Data(crm): Data<&Arc<Crm>>) -> Result<Response, Error> {
    let mut fields = Fields::from_body(body).await?;
    let name = fields.required_text("name");
    let email = fields.required_email("email");
    let company = fields.text("company");
    let plan = fields.choice("plan", &PLANS).unwrap_or_else(|| PLANS[0].to_owned());
    fields.finish()?;
    let mut state = crm.state();
    if state.customers().any(|customer| customer.email.eq_ignore_ascii_case(&email)) {
        let message = "there is a customer with this e-mail address";
        return Ok(problem(StatusCode::CONFLICT, "email_exists", message, &[]));
    }
    let id = format!("cus_{}", state.next_id);
    state.next_id += 1;
    let customer = Customer { id, name, email, company, plan, created_at: now() };
    let created = answer(StatusCode::CREATED, &json!(customer));
    if state.created.len() == MAX_CREATED {
        state.created.pop_front();
    }
    state.created.push_back(customer);
    Ok(created)
}

#[handler]
fn list_orders(Path(id): Path<String>, Data(crm): Data<&Arc<Crm>>) -> Response {
    if crm.state().find(&id).is_none() {
        return not_found("customer");
    }
    let orders: Vec<Order> = ORDERS
        .iter()
        .filter(|order| order.1 == id)
        .map(|&(id, customer_id, item, amount, status, placed_at)| Order {
            id,
            customer_id,
            item,
            amount,
            currency: "EUR",
            status,
            placed_at,
        })
        .collect();
    answer(StatusCode::OK, &json!({ "orders": orders, "total": orders.len() }))
}
