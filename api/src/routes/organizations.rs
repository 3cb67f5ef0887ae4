//! The caller's organization and its settings.

use commands::organization as use_cases;
use domain::organization::{Organization, Settings};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use crate::{
    answer::Answer,
    auth::{
        Permit,
        grant::{OrganizationRead, OrganizationWrite},
    },
    body::Body,
    problem::Problem,
};

pub struct OrganizationsApi;

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SettingsJson {
    /// Nothing is called at a new host before an admin or owner approves it.
    require_host_approval: bool,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct OrganizationJson {
    id: String,
    name: String,
    settings: SettingsJson,
    version: i64,
}

#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsBody {
    /// Connections that are there keep their hosts; another base URL asks.
    require_host_approval: Option<bool>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct OrganizationBody {
    settings: SettingsBody,
}

async fn current<P>(permit: &Permit<P>) -> Result<(Organization, i64), Problem> {
    let loaded = use_cases::current(permit.app(), permit.context()).await?;
    Ok((loaded.state, loaded.sequence))
}

fn answer<P>(permit: &Permit<P>, (organization, version): (Organization, i64)) -> Answer<OrganizationJson> {
    let settings = SettingsJson { require_host_approval: organization.settings.require_host_approval };
    let id = permit.context().actor.organization.to_string();
    Answer::new(OrganizationJson { id, name: organization.name, settings, version }).version(version)
}

#[OpenApi(tag = "Tag::Organizations")]
impl OrganizationsApi {
    /// Get the organization
    #[oai(path = "/organizations/current", method = "get", operation_id = "getOrganization")]
    async fn get(&self, permit: Permit<OrganizationRead>) -> Result<Answer<OrganizationJson>, Problem> {
        let found = current(&permit).await?;
        Ok(answer(&permit, found))
    }

    /// Change the organization's settings
    ///
    /// Settings that are absent stay.
    #[oai(path = "/organizations/current", method = "put", operation_id = "updateOrganization")]
    async fn update(
        &self,
        permit: Permit<OrganizationWrite>,
        body: Body<OrganizationBody>,
    ) -> Result<Answer<OrganizationJson>, Problem> {
        let expected = permit.expected_version()?;
        let present = current(&permit).await?.0.settings;
        let require_host_approval = body.0.settings.require_host_approval.unwrap_or(present.require_host_approval);
        let settings = Settings { require_host_approval };
        let done = use_cases::change_settings(permit.app(), permit.context(), expected, settings).await?;
        permit.wrote(done.at);
        let found = current(&permit).await?;
        Ok(answer(&permit, found).message("Settings changed.").at(done.at))
    }
}
