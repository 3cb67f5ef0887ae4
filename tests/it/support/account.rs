//! A registered person with a workspace, and keys of every role in it.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::Client;

pub struct Account {
    /// Calls as this person, with the first access token.
    pub client: Client,
    pub email: String,
    pub password: String,
    pub access: String,
    pub refresh: String,
    /// As registration answered.
    pub user: Value,
}

impl Account {
    pub async fn register(anonymous: Client, name: &str) -> Account {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (email, password) = (format!("{name}.{number}@example.com"), format!("correct horse {number} {name}"));
        let body = json!({ "email": email, "password": password, "name": name });
        let data = anonymous.post("/auth/register", body).await.data(201);
        let text = |field: &str| data[field].as_str().unwrap_or_else(|| panic!("{field}: {data}")).to_owned();
        let (access, refresh) = (text("accessToken"), text("refreshToken"));
        Account { client: anonymous.bearer(&access), email, password, access, refresh, user: data["user"].clone() }
    }

    /// A new API key of this role.
    pub async fn key(&self, role: &str) -> String {
        let body = json!({ "name": format!("{role} key"), "role": role });
        let data = self.client.post("/api-keys", body).await.data(201);
        data["key"].as_str().unwrap().to_owned()
    }

    /// A client with a new key of this role.
    pub async fn with_role(&self, role: &str) -> Client {
        self.client.bearer(&self.key(role).await)
    }

    pub fn workspace(&self) -> &str {
        self.user["workspaceId"].as_str().unwrap()
    }
}
