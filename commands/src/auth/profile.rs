//! Who the caller is.

use domain::{
    actor::{ActorKind, Role},
    error::{Code, Rejection},
    ids::{ApiKeyId, OrganizationId, UserId, WorkspaceId},
    user::User,
};

use crate::{App, Context, Failure};

#[derive(Debug, Clone)]
pub struct Profile {
    pub user_id: Option<UserId>,
    pub api_key_id: Option<ApiKeyId>,
    pub email: Option<String>,
    pub name: Option<String>,
    pub role: Role,
    pub workspace_id: WorkspaceId,
    pub organization_id: OrganizationId,
}

pub async fn me(app: &App, context: &Context) -> Result<Profile, Failure> {
    let actor = &context.actor;
    let mut profile = Profile {
        user_id: None,
        api_key_id: None,
        email: None,
        name: None,
        role: actor.role,
        workspace_id: actor.workspace,
        organization_id: actor.organization,
    };
    let unknown = || Rejection::new(Code::InvalidToken, "The account of this token does not exist.");
    match actor.kind {
        ActorKind::ApiKey => profile.api_key_id = Some(actor.id.parse().map_err(|_| unknown())?),
        ActorKind::User => {
            let id: UserId = actor.id.parse().map_err(|_| unknown())?;
            let user = app.store().load::<User>(id.0).await?.state;
            if !user.registered {
                return Err(unknown().into());
            }
            profile.user_id = Some(id);
            profile.email = open(app, actor.workspace, "user.email", user.email.as_ref()).await;
            profile.name = open(app, actor.workspace, "user.name", user.name.as_ref()).await;
        }
        ActorKind::System | ActorKind::Anonymous => return Err(unknown().into()),
    }
    Ok(profile)
}

async fn open(
    app: &App,
    workspace: WorkspaceId,
    field: &str,
    sealed: Option<&domain::sealed::Sealed<String>>,
) -> Option<String> {
    app.vault().open_sealed(workspace, field, sealed?).await.ok()
}
