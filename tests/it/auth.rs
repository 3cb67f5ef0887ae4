//! Accounts and sessions: registration, login, rotation of refresh tokens, and what a wrong one is told.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

/// The same answer for whoever asks: without what differs from request to request.
fn essence(answer: &Answer) -> Value {
    let mut body = answer.body.clone();
    body.as_object_mut().unwrap().retain(|name, _| !["requestId", "timestamp"].contains(&name.as_str()));
    json!({ "status": answer.status, "body": body })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_once_and_known_by_its_password() {
    let server = Server::start().await;
    let guest = server.anonymous();
    let maria = server.account("maria").await;

    let me = maria.client.get("/auth/me").await.data(200);
    assert_eq!(me["user"]["email"], json!(maria.email));
    assert_eq!((&me["user"]["role"], &me["user"]["name"]), (&json!("owner"), &json!("maria")));
    for (field, prefix) in [("id", "user_"), ("workspaceId", "ws_"), ("organizationId", "org_")] {
        assert!(me["user"][field].as_str().unwrap().starts_with(prefix), "{me}");
    }
    assert_eq!(maria.client.get("/auth/session").await.data(200), me, "the alias");
    let alias = maria.client.send_raw(reqwest::Method::GET, "/api/auth/me", None).await;
    assert_eq!(alias.data(200), me, "the base path without a version");

    // Case and spaces do not make another person.
    let again = json!({ "email": format!(" {} ", maria.email.to_uppercase()), "password": "another password" });
    guest.post("/auth/register", again).await.refused(409, "EMAIL_EXISTS");

    let login =
        |email: &str, password: &str| guest.post("/auth/login", json!({ "email": email, "password": password }));
    let tokens = login(&maria.email, &maria.password).await.data(200);
    assert_eq!((&tokens["tokenType"], &tokens["expiresIn"]), (&json!("Bearer"), &json!(900)));
    let second = guest.bearer(tokens["accessToken"].as_str().unwrap());
    assert_eq!(second.get("/auth/me").await.data(200)["user"]["id"], me["user"]["id"]);

    let wrong = login(&maria.email, "not the password").await;
    wrong.refused(401, "INVALID_CREDENTIALS");
    let unknown = login("nobody@example.com", "not the password").await;
    assert_eq!(essence(&wrong), essence(&unknown), "an unknown account is told nothing else");

    // Nor by the time that it takes: a password is hashed either way. The fastest of some, because others work as well.
    let fastest = async |email: &str| {
        let mut times = Vec::new();
        for _ in 0..4 {
            let began = std::time::Instant::now();
            login(email, "not the password").await.refused(401, "INVALID_CREDENTIALS");
            times.push(began.elapsed());
        }
        times.into_iter().min().unwrap()
    };
    let (known, unknown) = (fastest(&maria.email).await, fastest("nobody@example.com").await);
    assert!(unknown * 2 > known && known * 2 > unknown, "known: {known:?}, unknown: {unknown:?}");

    let mut database = server.database().await;
    let failed: i64 = sqlx::query_scalar("select count(*) from log.events where event_type = 'user.login_failed'")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(failed, 5, "the wrong password of a known account is in the log");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_field_of_a_registration_is_named() {
    let server = Server::start().await;
    let guest = server.anonymous();
    let wrong = json!({ "email": "nobody", "password": "short", "name": "" });
    guest.post("/auth/register", wrong).await.names(&["email", "password", "name"]);
    let unknown =
        json!({ "email": "a@example.com", "password": "long enough it is", "role": "owner", "isAdmin": true });
    guest.post("/auth/register", unknown).await.names(&["role", "isAdmin"]);
    let snake = json!({ "email": "a@example.com", "password": "long enough it is", "organization_name": "x" });
    guest.post("/auth/register", snake).await.names(&["organization_name"]);
    guest.post("/auth/login", json!({})).await.names(&["email", "password"]);
    guest.post("/auth/login", json!({ "email": 5, "password": [] })).await.names(&["email", "password"]);
    guest.post("/auth/refresh", json!({ "refreshToken": "rt_nonsense" })).await.refused(401, "INVALID_TOKEN");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_tokens_are_good_once() {
    let server = Server::start().await;
    let guest = server.anonymous();
    let refresh = async |token: &str| guest.post("/auth/refresh", json!({ "refreshToken": token })).await;

    // Rotation: each gives the next.
    let maria = server.account("maria").await;
    let first = refresh(&maria.refresh).await.data(200);
    let second_token = first["refreshToken"].as_str().unwrap().to_owned();
    assert_ne!(second_token, maria.refresh);
    guest.bearer(first["accessToken"].as_str().unwrap()).get("/auth/me").await.data(200);
    let second = refresh(&second_token).await.data(200);

    // The second use of the first ends the family: nobody knows which of the two is the thief.
    refresh(&maria.refresh).await.refused(401, "INVALID_TOKEN");
    refresh(second["refreshToken"].as_str().unwrap()).await.refused(401, "INVALID_TOKEN");
    let other_session = json!({ "email": maria.email, "password": maria.password });
    guest.post("/auth/login", other_session).await.data(200);

    // One winner among parallel ones.
    let jonas = server.account("jonas").await;
    let asked = futures::future::join_all((0..12).map(|_| refresh(&jonas.refresh))).await;
    let winners = asked.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(winners, 1, "{:?}", asked.iter().map(|answer| answer.status).collect::<Vec<_>>());
    asked.iter().filter(|answer| answer.status != 200).for_each(|answer| {
        answer.refused(401, "INVALID_TOKEN");
    });

    // After a logout its token is worth nothing.
    let aiko = server.account("aiko").await;
    assert_eq!(aiko.client.post("/auth/logout", json!({})).await.status, 200);
    refresh(&aiko.refresh).await.refused(401, "INVALID_TOKEN");

    // A token of one kind is none of another.
    guest.bearer(&aiko.refresh).get("/auth/me").await.refused(401, "INVALID_TOKEN");
    refresh(&aiko.access).await.refused(401, "INVALID_TOKEN");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_keys_carry_a_role_and_end() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let guest = server.anonymous();
    let made = maria.client.post("/api-keys", json!({ "name": "ci", "role": "member" })).await;
    let key = made.data(201)["key"].as_str().unwrap().to_owned();
    let id = made.data(201)["id"].as_str().unwrap().to_owned();
    assert!(key.starts_with("sk_"), "{key}");

    for client in [guest.bearer(&key), guest.header("x-api-key", &key)] {
        let me = client.get("/auth/me").await.data(200);
        assert_eq!((&me["user"]["id"], &me["user"]["role"]), (&json!(id), &json!("member")));
    }
    let shown = maria.client.get(&format!("/api-keys/{id}")).await;
    assert_eq!(shown.data(200)["status"], "active");
    let listed = maria.client.get("/api-keys").await;
    assert!(!shown.text.contains(&key) && !listed.text.contains(&key), "a key is shown once");

    // One character changed: the checksum; the same length of another text; another kind's prefix.
    let last = if key.ends_with('0') { "1" } else { "0" };
    for bad in [format!("{}{last}", &key[..key.len() - 1]), key.replace("sk_", "rt_"), "sk_".into(), "sk_x".into()] {
        guest.header("x-api-key", &bad).get("/auth/me").await.refused(401, "INVALID_TOKEN");
    }
    guest.header("authorization", "Basic bWFyaWE6eA==").get("/auth/me").await.refused(401, "INVALID_TOKEN");

    assert_eq!(maria.client.delete(&format!("/api-keys/{id}")).await.status, 200);
    guest.bearer(&key).get("/auth/me").await.refused(401, "INVALID_TOKEN");
    assert_eq!(maria.client.get(&format!("/api-keys/{id}")).await.data(200)["status"], "revoked");

    // A key that ended yesterday, and one with a role that does not exist.
    let past = json!({ "name": "old", "role": "viewer", "expiresAt": "2020-01-01T00:00:00Z" });
    maria.client.post("/api-keys", past).await.names(&["expiresAt"]);
    maria.client.post("/api-keys", json!({ "name": "x", "role": "god" })).await.names(&["role"]);
    // An admin's key makes no owner's: nobody gives more than they have.
    let admin = maria.with_role("admin").await;
    admin.post("/api-keys", json!({ "name": "up", "role": "owner" })).await.names(&["role"]);
    server.finish().await;
}
