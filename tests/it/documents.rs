//! Every real single-file document of the shared folder, uploaded over REST: taken whole, counted right, searchable.

use serde_json::json;

use crate::support::client::id;
use crate::support::{Server, specs};

#[tokio::test(flavor = "multi_thread")]
async fn every_single_file_document_is_taken() {
    let Some(documents) = specs::single_files() else { return };
    assert!(documents.len() >= 15, "only {} documents", documents.len());
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;

    let mut connections = Vec::new();
    for document in &documents {
        let body = json!({ "name": document.file, "spec": document.text });
        // While large documents are read, the read model may need longer than an answer waits: then it is 202.
        let created = client.post("/connections", body).await;
        connections.push(created.data(if created.status == 202 { 202 } else { 201 }));
    }
    let mut wrong = Vec::new();
    for (document, connection) in documents.iter().zip(&connections) {
        let found = client.ingested(id(connection)).await;
        let counts = (found["endpointCount"].as_u64().unwrap(), found["webhookCount"].as_u64().unwrap());
        if found["ingestionStatus"] != "SUCCEEDED" || counts != (document.operations, document.webhooks) {
            let expected = (document.operations, document.webhooks);
            wrong.push(format!("{}: {counts:?} instead of {expected:?}: {found}", document.file));
            continue;
        }
        let listed = client.get(&format!("/connections/{}/endpoints?limit=1", id(connection))).await.data(200);
        assert_eq!(listed["pagination"]["total"].as_u64(), Some(document.operations), "{}", document.file);
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), documents.len(), wrong.join("\n"));

    // Ranked search over all of them at once.
    let best = |text: &str| format!("/operations?search={}&limit=5", text.replace(' ', "+"));
    let expectations = [
        ("create a repository for the authenticated user", "/user/repos"),
        ("list pull requests of a repository", "/repos/{owner}/{repo}/pulls"),
        ("find pets by status", "/pet/findByStatus"),
    ];
    for (question, path) in expectations {
        let found = client.get(&best(question)).await.data(200);
        let paths: Vec<_> = found["operations"].as_array().unwrap().iter().map(|o| o["path"].clone()).collect();
        assert!(paths.contains(&json!(path)), "{question}: {paths:?}");
    }
    server.finish().await;
}
