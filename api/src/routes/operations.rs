//! Operations: the endpoints that connected documents describe.

use domain::{
    error::Code,
    ids::{ConnectionId, EndpointId},
};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{ListFilter, Listed, OperationView, Page};
use serde_json::{Map, Value};

use super::{Tag, connections};
use crate::{
    answer::Answer,
    auth::{Permit, grant::ConnectionRead},
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::Id,
};

/// Matches beyond this fit badly.
const MOST_MATCHES: usize = 200;

pub struct OperationsApi;

listing! {
    /// What the list of a connection's endpoints may be asked.
    pub struct EndpointList sorted by "path,method,operationId" {
        "method" = "string", "HTTP method.";
        "tag" = "string", "A tag of the document.";
        "operationId" = "string", "As in the document.";
        "search" = "string", "Part of path, summary, operationId or description.";
    }
}

listing! {
    /// What the list of all operations may be asked.
    pub struct OperationList sorted by "path,method,operationId" {
        "connectionId" = "id:conn", "Of this connection.";
        "method" = "string", "HTTP method.";
        "tag" = "string", "A tag of the document.";
        "search" = "string", "Part of path, summary, operationId or description.";
    }
}

/// One operation of a document. Schemas are summaries, resolved to a bounded depth.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct EndpointJson {
    /// The same for the same connection, method and path.
    id: String,
    connection_id: String,
    method: String,
    path: String,
    operation_id: Option<String>,
    summary: Option<String>,
    description: Option<String>,
    tags: Vec<String>,
    deprecated: bool,
    /// `[{name, in, required, description?, schema}]`.
    parameters: Vec<Value>,
    /// `{required, contentType, schema}`.
    request_body: Option<Value>,
    /// By status: `{description?, contentType?, schema?}`.
    responses: Value,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct EndpointsJson {
    endpoints: Vec<EndpointJson>,
    pagination: Pagination,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OperationsJson {
    operations: Vec<EndpointJson>,
    pagination: Pagination,
}

fn json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl From<OperationView> for EndpointJson {
    fn from(view: OperationView) -> Self {
        let mut responses = Map::new();
        for response in view.detail.responses {
            let status = response.status.clone();
            let mut value = json(response);
            if let Some(map) = value.as_object_mut() {
                map.remove("status");
            }
            responses.insert(status, value);
        }
        Self {
            id: view.id.to_string(),
            connection_id: view.connection_id.to_string(),
            method: view.method,
            path: view.path,
            operation_id: view.operation_id,
            summary: view.summary,
            description: view.description,
            tags: view.tags,
            deprecated: view.deprecated,
            parameters: view.detail.parameters.into_iter().map(json).collect(),
            request_body: view.detail.request_body.map(json),
            responses: Value::Object(responses),
        }
    }
}

/// The best matches, page by page; filters hold as in the plain list.
async fn ranked<P>(
    permit: &Permit<P>,
    words: &str,
    filter: &ListFilter,
    page: &Page,
) -> Result<Listed<OperationView>, Problem> {
    let matches = commands::operation::search(permit.app(), permit.context(), words, MOST_MATCHES).await?;
    let mut found = Vec::new();
    for found_match in matches {
        let id = projections::endpoint_id(found_match.connection, &found_match.method, &found_match.path);
        let shown = |(field, wanted): &(String, String)| match field.as_str() {
            "connectionId" => wanted.split(',').any(|id| id.trim() == found_match.connection.to_string()),
            "method" => wanted.split(',').any(|method| method.trim() == found_match.method),
            _ => true,
        };
        if filter.fields.iter().all(shown) {
            found.push(id);
        }
    }
    let (number, limit) = (page.page.max(1), page.limit.max(1));
    let start = (number as usize - 1).saturating_mul(limit as usize);
    let tags: Vec<&str> =
        filter.fields.iter().filter(|(field, _)| field == "tag").flat_map(|(_, tags)| tags.split(',')).collect();
    let mut items = Vec::new();
    for id in found.iter().skip(start).take(limit as usize) {
        // A match whose connection was deleted since the index was made is left out.
        let view = permit.reads().operation(permit.workspace(), *id).await?;
        items.extend(view.filter(|view| tags.is_empty() || view.tags.iter().any(|tag| tags.contains(&tag.as_str()))));
    }
    let (has_next, has_prev) = (found.len() > start.saturating_add(limit as usize), number > 1);
    let total = found.len() as i64;
    Ok(Listed { items, total, page: number, limit, next_cursor: None, prev_cursor: None, has_next, has_prev })
}

/// Methods are stored in capitals.
fn capitals(filter: &mut ListFilter) {
    for (_, value) in filter.fields.iter_mut().filter(|(field, _)| field == "method") {
        *value = value.to_ascii_uppercase();
    }
}

#[OpenApi(tag = "Tag::Connections")]
impl OperationsApi {
    /// List a connection's endpoints
    ///
    /// The operations of its document, in the document's order.
    #[oai(path = "/connections/:id/endpoints", method = "get", operation_id = "listEndpoints")]
    async fn endpoints(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
        asked: Asked<EndpointList>,
    ) -> Result<Answer<EndpointsJson>, Problem> {
        let connection = connections::find(&permit, id.typed("id")?).await?;
        let EndpointList { mut filter, page } = asked.0;
        capitals(&mut filter);
        let listed = permit.reads().operations_of(permit.workspace(), connection.id, &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(EndpointsJson { endpoints: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Get an endpoint
    ///
    /// One operation with its parameters, request body and responses.
    #[oai(path = "/connections/:id/endpoints/:endpointId", method = "get", operation_id = "getEndpoint")]
    async fn endpoint(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
        #[oai(name = "endpointId")] endpoint_id: Path<Id<EndpointId>>,
    ) -> Result<Answer<EndpointJson>, Problem> {
        let connection = connections::find(&permit, id.typed("id")?).await?;
        let found = permit.reads().operation(permit.workspace(), endpoint_id.typed("endpointId")?).await?;
        let view = found.filter(|view| view.connection_id == connection.id);
        let view = view.ok_or_else(|| Problem::not_found(Code::ResourceNotFound, "endpoint"))?;
        Ok(Answer::new(view.into()))
    }

    /// Search operations
    ///
    /// Over all connections of the workspace: what a workflow's steps can call. With `search` (and no `sort`) the best
    /// fit comes first; plain words will do.
    #[oai(path = "/operations", method = "get", operation_id = "listOperations")]
    async fn operations(
        &self,
        permit: Permit<ConnectionRead>,
        asked: Asked<OperationList>,
    ) -> Result<Answer<OperationsJson>, Problem> {
        let OperationList { mut filter, page } = asked.0;
        capitals(&mut filter);
        let listed = match filter.search.take() {
            Some(words) if page.sort.is_none() && page.cursor.is_none() => {
                ranked(&permit, &words, &filter, &page).await?
            }
            search => {
                filter.search = search;
                permit.reads().operations(permit.workspace(), &filter, &page).await?
            }
        };
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(OperationsJson { operations: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }
}
