//! A workflow against a real document, served by Prism: requests that the document does not allow are refused there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{http, id};
use crate::support::keeper::{Keeper, free_port};
use crate::support::{Server, specs, until};

pub struct Prism {
    _keeper: Keeper,
    pub url: String,
}

/// The program, installed once by npm; `None` (and said so) where that does not work.
pub fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prism");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let program = folder.join("node_modules/.bin/prism");
    if program.exists() {
        return Some(program);
    }
    let arguments = ["install", "--no-audit", "--no-fund", "--no-save", "--prefix"];
    let run = Command::new("npm").args(arguments).arg(&folder).arg("@stoplight/prism-cli@5").output();
    match run {
        Ok(output) if output.status.success() && program.exists() => Some(program),
        Ok(output) => {
            eprintln!("skipped: npm installs no Prism: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("skipped: there is no npm: {error}");
            None
        }
    }
}

/// Serves a document. `strict`: what it does not allow fails, in requests and in its own examples. `path` is one that
/// answers.
pub async fn serve(program: &Path, document: &Path, folder: &Path, path: &str, strict: bool) -> Prism {
    let port = free_port();
    let mut command = Command::new(program);
    command.args(["mock", "--host", "127.0.0.1", "--port", &port.to_string()]).arg(document);
    if strict {
        command.arg("--errors");
    }
    let keeper = Keeper::spawn(&command, &folder.join("prism.log"));
    let prism = Prism { _keeper: keeper, url: format!("http://127.0.0.1:{port}") };
    let probe = format!("{}{path}", prism.url);
    until("Prism answers", Duration::from_secs(60), async || http().get(&probe).send().await.ok().map(drop)).await;
    prism
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pet_store_as_prism_serves_it() {
    let Some(specs) = specs::folder() else { return };
    let Some(program) = tokio::task::spawn_blocking(installed).await.unwrap() else { return };
    let document = specs.join("petstore-v3.yaml");
    let folder = tempfile::tempdir().unwrap();
    let prism = serve(&program, &document, folder.path(), "/store/inventory", true).await;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let connection = maria
        .client
        .connect(json!({
            "name": "Pet store", "spec": fs::read_to_string(&document).unwrap(), "baseUrl": prism.url,
            "authType": "bearer", "authConfig": { "token": "any" },
        }))
        .await;
    assert_eq!(connection["endpointCount"], 19);
    let connection = id(&connection);
    let call = |id: &str, operation: &str, parameters: serde_json::Value| json!({ "id": id, "type": "api_call", "connectionId": connection, "operationId": operation, "parameters": parameters });
    let workflow = json!({
        "name": "Order the available pets",
        "inputSchema": { "type": "object", "required": ["status"], "properties": { "status": { "type": "string" } } },
        "steps": [
            call("find", "findPetsByStatus", json!({ "status": "{{ input.status }}" })),
            { "id": "each", "type": "loop", "items": "{{ steps.find.output }}", "as": "pet", "steps": [
                call("pet", "getPetById", json!({ "petId": "{{ pet.id }}" })),
                call("order", "placeOrder", json!({ "petId": "{{ steps.pet.output.id }}", "quantity": 1 })),
            ] },
            { "id": "add", "type": "api_call", "connectionId": connection, "method": "POST", "endpoint": "/pet",
              "body": { "name": "Rex of {{ input.status }}", "photoUrls": ["https://example.com/rex.png"] } },
        ],
        "output": { "orders": "{{ steps.order | length }}", "added": "{{ steps.add.output.name }}" },
    });
    let workflow = maria.client.workflow(workflow).await;
    let execution = maria.client.execute(&workflow, json!({ "status": "available" })).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert!(execution["output"]["orders"].as_u64().unwrap() >= 1, "{execution}");
    assert!(execution["output"]["added"].is_string(), "{execution}");

    // What the document does not allow is refused by Prism, and shown as such.
    let refused = maria.client.execute(&workflow, json!({ "status": "colourful" })).await;
    assert_eq!(refused["status"], "failed", "{refused}");
    assert_eq!(refused["failedStep"], "find", "{refused}");
    server.finish().await;
}
