//! Keys from outside: a workspace's rotation, two at once, a crash in between, an erased key, a new master key.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Account, Client, Ledger, Server, until};

async fn secret(client: &Client, name: &str) -> String {
    let made = client.post("/secrets", json!({ "name": name, "value": format!("{name}-canary") })).await.data(201);
    id(&made).to_owned()
}

/// A workflow whose only step needs a credential.
async fn calling(maria: &Account, ledger: &Ledger) -> String {
    let mut connection = ledger.connection("ledger");
    connection["authType"] = json!("bearer");
    connection["authConfig"] = json!({ "token": "called-canary" });
    let connection = maria.client.connect(connection).await;
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    maria.client.workflow(json!({ "name": "fetch", "steps": [step] })).await
}

/// Types of the key's events in the log, first to last.
async fn told(client: &Client) -> Vec<String> {
    let logs = client.get("/logs?action=workspace_key.*&limit=100").await.data(200);
    let mut names: Vec<String> =
        logs["logs"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect();
    names.reverse();
    names
}

async fn statuses(client: &Client) -> Vec<String> {
    let keys = client.get("/keys").await.data(200);
    keys["keys"].as_array().unwrap().iter().map(|key| key["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspaces_key_is_rotated_and_the_old_one_destroyed() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    assert_eq!(told(client).await, ["workspace_key.made"]);
    let ledger = Ledger::start(Duration::ZERO).await;
    let workflow = calling(&maria, &ledger).await;
    let one = secret(client, "one").await;
    let before = client.get("/keys").await.data(200)["keys"][0].clone();
    assert_eq!((&before["version"], &before["status"]), (&json!(1), &json!("active")));

    let rotated = client.post(&format!("/secrets/{one}/rotate"), json!({})).await;
    let rotated = rotated.data(200);
    assert_eq!((&rotated["rotatedSecrets"], &rotated["keyVersion"]), (&json!(2), &json!(2)), "{rotated}");
    assert_eq!(
        (&rotated["status"], &rotated["progress"]["done"]),
        (&json!("completed"), &rotated["progress"]["total"])
    );
    let keys = client.get("/keys").await.data(200);
    assert_eq!(keys["keys"][1]["keyId"], rotated["newKeyId"]);
    assert_eq!((&keys["keys"][0]["status"], &keys["keys"][0]["keyId"]), (&json!("destroyed"), &before["keyId"]));
    assert_eq!(keys["keys"][0]["wraps"], 0);
    assert_eq!(
        told(client).await,
        [
            "workspace_key.made",
            "workspace_key.rotated",
            "workspace_key.retired",
            "workspace_key.destroyed",
            "workspace_key.rewrapped"
        ]
    );
    // The proof: which key, how much it had wrapped, and that nothing was lost with it.
    let logs = client.get("/logs?action=workspace_key.destroyed").await.data(200);
    let data = &logs["logs"][0]["data"];
    assert_eq!((&data["keyId"], &data["erased"]), (&before["keyId"], &json!(0)), "{logs}");
    assert!(data["wrapped"].as_i64().unwrap() >= 4, "{data}");
    assert_eq!(logs["logs"][0]["userId"], maria.user["id"]);

    // Everything goes on, and other tenants have no part in it.
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let jonas = server.account("jonas").await;
    jonas.client.post(&format!("/secrets/{one}/rotate"), json!({})).await.refused(404, "CREDENTIAL_NOT_FOUND");
    assert_eq!(statuses(&jonas.client).await, ["active"]);
    for role in ["manager", "viewer"] {
        let other = maria.with_role(role).await;
        other.post(&format!("/secrets/{one}/rotate"), json!({})).await.refused(403, "FORBIDDEN");
    }
    assert_eq!(statuses(&maria.with_role("auditor").await).await.len(), 2);

    // Two at once: one wins, the other is told; in the end one version wraps everything.
    let path = format!("/secrets/{one}/rotate");
    let both = tokio::join!(client.post(&path, json!({})), client.post(&path, json!({})));
    let mut won = 0;
    for answer in [both.0, both.1] {
        match answer.status {
            200 => won += 1,
            _ => {
                let refused = answer.refused(409, "CONFLICT");
                assert!(refused["data"]["keyVersion"].is_number(), "{refused}");
            }
        }
    }
    assert!(won >= 1);
    let after = client.get("/keys").await.data(200);
    let active: Vec<&Value> =
        after["keys"].as_array().unwrap().iter().filter(|key| key["status"] == "active").collect();
    assert_eq!(active.len(), 1, "{after}");
    assert!(after.get("rotation").is_none(), "{after}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_a_crash_has_cut_is_carried_on() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    for n in 0..5 {
        secret(&maria.client, &format!("secret {n}")).await;
    }
    server.assert_settled().await;
    // As it is left by a process that dies after the log has decided: the key is prepared, and nothing else is done.
    let mut database = server.database().await;
    let workspace = maria.workspace().parse::<domain::ids::WorkspaceId>().unwrap();
    let master = STANDARD.decode(std::fs::read_to_string(server.data().join("master.key")).unwrap().trim()).unwrap();
    server.kill().await;
    let key = [7u8; 32];
    let key_id = hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(key)[..16]);
    let master_id = hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(&master)[..8]);
    let wrapped = wrap(&master, &format!("apiq workspace key|{}|2", workspace.0), &key);
    sqlx::query(
        "insert into vault.workspace_keys (workspace_id, version, key_id, master_key_id, wrapped, status, created_at)
         values ($1, 2, $2, $3, $4, 'pending', now() - interval '1 hour')",
    )
    .bind(workspace.0)
    .bind(&key_id)
    .bind(&master_id)
    .bind(wrapped)
    .execute(&mut database)
    .await
    .unwrap();
    let events = [
        (
            "workspace_key.rotated",
            json!({ "version": 2, "keyId": key_id, "masterKeyId": master_id, "previousVersion": 1 }),
        ),
        ("workspace_key.retired", json!({ "version": 1, "keyId": "whatever it was" })),
    ];
    for (name, payload) in events {
        sqlx::query(
            "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
                                     event_version, payload, metadata, event_id)
             select e.generation, e.workspace_id, e.aggregate_type, e.aggregate_id, e.sequence + 1, $2, '1', $3::json,
                    e.metadata, gen_random_uuid()
               from log.events e where e.aggregate_type = 'workspace_key' and e.workspace_id = $1
              order by e.sequence desc limit 1",
        )
        .bind(workspace.0)
        .bind(name)
        .bind(payload.to_string())
        .execute(&mut database)
        .await
        .unwrap();
    }
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    until("the rotation is carried on", Duration::from_secs(30), async || {
        (statuses(&client).await == ["destroyed", "active"]).then_some(())
    })
    .await;
    let keys = client.get("/keys").await.data(200);
    assert!(keys["keys"][1]["wraps"].as_i64().unwrap() >= 6, "{keys}");
    until("the log is told", Duration::from_secs(10), async || {
        let told = told(&client).await;
        (told.ends_with(&["workspace_key.destroyed".into(), "workspace_key.rewrapped".into()])).then_some(())
    })
    .await;
    assert!(client.get("/keys").await.data(200).get("rotation").is_none());
    server.finish().await;
}

fn wrap(key: &[u8], aad: &str, plain: &[u8]) -> Vec<u8> {
    use aes_gcm::aead::{Aead, Payload};
    use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
    let cipher = Aes256Gcm::new_from_slice(key).unwrap();
    let nonce = [3u8; 12];
    let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() }).unwrap();
    [nonce.as_slice(), &sealed].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_is_proof_that_its_values_are_gone() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let workflow = calling(&maria, &ledger).await;
    let connection = client.get("/connections").await.data(200)["connections"][0]["id"].as_str().unwrap().to_owned();
    let one = secret(client, "one").await;
    let execution = client.execute(&workflow, json!({ "who": "input-canary" })).await;
    assert_eq!(execution["input"]["who"], "input-canary", "{execution}");
    let before = client.get("/keys").await.data(200)["keys"][0].clone();

    client.post("/keys/destroy", json!({ "keyId": before["keyId"], "erase": false })).await.names(&["erase"]);
    client.post("/keys/destroy", json!({ "keyId": "0".repeat(32), "erase": true })).await.names(&["keyId"]);
    let body = json!({ "keyId": before["keyId"], "erase": true });
    let jonas = server.account("jonas").await;
    jonas.client.post("/keys/destroy", body.clone()).await.names(&["keyId"]);
    let keys = client.post("/keys/destroy", body.clone()).await.data(200);
    let gone = &keys["keys"][0];
    assert_eq!((&gone["status"], &gone["erased"]), (&json!("destroyed"), &before["wraps"]), "{keys}");
    client.post("/keys/destroy", body).await.refused(409, "CONFLICT");
    // The secrets say so, and so do their streams.
    let shown = client.get(&format!("/secrets/{one}")).await.data(200);
    assert_eq!((&shown["status"], &shown["isActive"]), (&json!("destroyed"), &json!(false)), "{shown}");
    let listed = async |query: &str| client.get(&format!("/secrets{query}")).await.data(200)["totalCount"].clone();
    assert_eq!((listed("").await, listed("?status=destroyed").await), (json!(2), json!(2)));
    assert_eq!(listed("?status=active").await, 0);
    let versions = client.get(&format!("/secrets/{one}/versions")).await.data(200)["versions"].clone();
    assert_eq!(versions[0]["status"], "destroyed", "{versions}");
    let tested = client.post(&format!("/connections/{}/test", connection), json!({})).await.data(200);
    assert!(tested["message"].as_str().unwrap().contains("was destroyed"), "{tested}");
    let logs = client.get("/logs?action=workspace_key.destroyed").await.data(200);
    let data = &logs["logs"][0]["data"];
    assert_eq!((&data["keyId"], &data["erased"]), (&before["keyId"], &before["wraps"]), "{logs}");

    // Nobody reads it any more, and each says so.
    let after = client.get(&format!("/executions/{}", id(&execution))).await;
    assert!(!after.text.contains("input-canary"), "{}", after.text);
    let again = client.execute(&workflow, json!({})).await;
    assert_eq!(again["steps"][0]["error"]["code"], "CREDENTIAL_UNREADABLE", "{again}");
    let (code, text) = server.tool(&["replay", "timeline", id(&execution)]).await;
    assert!(code == 0 && text.contains("erased"), "{text}");
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 0, "proofs and read models hold: {text}");
    // The workspace goes on.
    assert_eq!(again["status"], "failed");
    secret(client, "after").await;
    let renewed = client.put(&format!("/secrets/{one}"), json!({ "value": "after" })).await.data(200);
    assert_eq!((&renewed["status"], &renewed["version"]), (&json!("active"), &json!(2)), "{renewed}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_takes_over_while_the_server_goes_on() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    server.account("jonas").await;
    let ledger = Ledger::start(Duration::ZERO).await;
    let workflow = calling(&maria, &ledger).await;
    let old = std::fs::read_to_string(server.data().join("master.key")).unwrap().trim().to_owned();
    let new = STANDARD.encode([42u8; 32]);
    server.stop().await;

    // Alone, the new key opens nothing: the start fails with a sentence.
    let (code, text) = server.tool_with(&[("APIQ_MASTER_KEY", &new)], &["admin", "rotate-master"]).await;
    assert!(code == 2 && text.contains("the master key is not the one"), "{code} {text}");
    let both = [("APIQ_MASTER_KEY", new.as_str()), ("APIQ_MASTER_KEY_PREVIOUS", old.as_str())];
    server.set(&both);
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    let progress = client.get("/admin/master-key").await.data(200);
    // The organization's one key; not those of other tenants, nor the installation's own.
    assert_eq!((&progress["total"], &progress["done"]), (&json!(1), &json!(0)), "{progress}");
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");

    let (code, text) = server.tool_with(&both, &["admin", "rotate-master", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    let last: Value = serde_json::from_str(text.lines().rfind(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!((&last["finished"], &last["done"]), (&json!(true), &last["total"]), "{text}");
    assert!(last["total"].as_i64().unwrap() >= 4, "the operator is told of all keys: {text}");
    let progress = client.get("/admin/master-key").await.data(200);
    assert_eq!((&progress["done"], &progress["total"]), (&json!(1), &json!(1)));
    assert_eq!(progress["keyId"], last["keyId"]);
    // Written by another process: the read models may be a moment behind.
    until("the log tells of the new master key", Duration::from_secs(10), async || {
        told(&client).await.contains(&"workspace_key.master_changed".to_owned()).then_some(())
    })
    .await;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");

    // The old one is not needed any more, and the tokens of before are good.
    server.stop().await;
    let file = server.data().join("new.key");
    std::fs::write(&file, format!("{new}\n")).unwrap();
    server.set(&[("APIQ_MASTER_KEY_FILE", file.to_str().unwrap())]);
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");
    client.send(Method::GET, "/auth/me", None).await.data(200);
    let (code, text) = server.tool_with(&[("APIQ_MASTER_KEY", &old)], &["admin", "rotate-master"]).await;
    assert!(code == 2 && text.contains("the master key is not the one"), "{code} {text}");
    server.finish().await;
}
