//! `wsgw bench`, run to its end, and what its result must be.

use std::process::Output;

use serde_json::Value;

use super::gateway::run;
use super::{API_KEY, Gateway, in_crate, within};

/// Runs the tool to its end.
pub async fn bench(args: &[&str]) -> Output {
    let args: Vec<String> = ["bench"]
        .iter()
        .chain(args)
        .map(ToString::to_string)
        .collect();
    let running = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args, &[("GATEWAY_API_KEY", API_KEY)])
    });
    within("wsgw bench", running).await.unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The result, and nothing else.
#[track_caller]
pub fn result(output: &Output) -> Value {
    assert_eq!(stderr(output), "", "a bar, though nobody looks?");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
pub fn passed(output: &Output, count: u64) -> Value {
    let text = stdout(output) + &stderr(output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let result = result(output);
    assert_eq!(result["expected"], count, "{result}");
    assert_eq!(result["count"], count, "{result}");
    assert_eq!(result["lost"], 0, "{result}");
    assert_eq!(result["reordered"], 0, "{result}");
    assert_eq!(result["problems"], serde_json::json!([]), "{result}");
    result
}

#[track_caller]
pub fn fails(output: &Output, code: i32, told: &[&str]) {
    let text = stdout(output) + &stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for told in told {
        assert!(text.contains(told), "{told:?} in {text}");
    }
}

pub fn url(gateway: &Gateway) -> String {
    format!("ws://{}/ws", gateway.address)
}

pub fn key() -> String {
    in_crate("tests/keys/rsa.pem").to_str().unwrap().to_owned()
}
