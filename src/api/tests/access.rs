//! Who may call what: keys, surfaces, unknown paths, and the order in which a call is decided.

use serde_json::json;

use super::*;

const INTERNAL: [(&str, &str); 6] = [
    ("GET", "/internal/dead-letters"),
    ("POST", "/internal/publish"),
    ("GET", "/internal/connections"),
    ("GET", "/internal/users/7/connections"),
    ("POST", "/internal/disconnect"),
    ("GET", "/internal/log-level"),
];

#[tokio::test]
async fn without_a_configured_key_every_call_is_forbidden() {
    let api = Api::new();
    for key in ["", " "] {
        api.set_config(config(key, LIMIT));
        for path in [
            "/internal",
            "/internal/publish",
            "/internal/connections",
            "/internal/x/y",
        ] {
            for method in ["GET", "POST", "PUT"] {
                for sent in [&[][..], &[(API_KEY_HEADER, key)], &[(API_KEY_HEADER, KEY)]] {
                    let body = json!({"api_key": key}).to_string();
                    api.send(method, path, sent, body.as_bytes())
                        .await
                        .problem(403);
                }
            }
        }
        assert_eq!(api.send("GET", "/health", &[], b"").await.status, 200);
    }
    api.set_config(config(KEY, LIMIT));
    assert_eq!(
        api.call("GET", "/internal/connections", "").await.status,
        200
    );
}

#[tokio::test]
async fn the_key_is_taken_from_the_header_or_the_body() {
    let api = Api::new();
    let (right, wrong) = ([(API_KEY_HEADER, KEY)], [(API_KEY_HEADER, "wrong")]);
    let body =
        |key: &str| format!(r#"{{"subjects":["a"],"payload":1,"user_id":"1","api_key":{key}}}"#);
    for (method, path) in INTERNAL {
        let send = async |headers: &[(&str, &str)], body: String| {
            api.send(method, path, headers, body.as_bytes()).await
        };
        assert_eq!(send(&right, body("\"wrong\"")).await.status, 200);
        assert_eq!(send(&[], body("\"right-key\"")).await.status, 200);
        assert_eq!(send(&[], body("\"right\\u002dkey\"")).await.status, 200);

        let missing = send(&[], String::new()).await;
        assert!(missing.problem(401).contains("missing"));
        assert_eq!(missing.header("www-authenticate"), Some("ApiKey"));
        send(&[], "{\"api_key\":\"right-key\"".into())
            .await
            .problem(401);
        send(&[], "not json".into()).await.problem(401);
        for key in ["\"wrong\"", "\"\"", "null", "7", "[\"right-key\"]"] {
            assert_eq!(
                send(&[], body(key)).await.problem(401),
                "the API key is wrong"
            );
        }
        for headers in [
            &wrong[..],
            &[(API_KEY_HEADER, "")],
            &[right[0], wrong[0]],
            &[right[0], right[0]],
        ] {
            send(headers, body("\"right-key\"")).await.problem(401);
        }
    }
}

#[tokio::test]
async fn a_call_is_decided_in_one_order() {
    let api = Api::new();
    let big = vec![b'x'; LIMIT + 1];
    let wrong = [(API_KEY_HEADER, "wrong")];
    api.send("PUT", "/internal/nothing", &wrong, &big)
        .await
        .problem(404);
    api.send("PUT", "/internal/publish", &wrong, &big)
        .await
        .problem(405);
    api.send("POST", "/internal/publish", &wrong, &big)
        .await
        .problem(401);
    api.send("POST", "/internal/publish", &[], &big)
        .await
        .problem(413);
    let told = api.publish(&big).await.problem(413);
    assert!(told.ends_with("is 2000"), "{told}");
    api.publish(&big[..LIMIT]).await.problem(400);
    let length = LIMIT.to_string();
    let announced = [(API_KEY_HEADER, KEY), ("content-length", length.as_str())];
    api.send("POST", "/internal/publish", &announced, &big)
        .await
        .problem(413);
}

#[tokio::test]
async fn no_answer_repeats_the_key_or_the_payload() {
    let api = Api::new();
    for body in [
        r#"{"api_key":"s3cret"}"#,
        r#"{"api_key":"s3cret","subjects":"s3cret"}"#,
        r#"{"api_key":"right-key","subjects":["s3cret"],"payload":"s3cret""#,
        r#"{"api_key":"right-key","subjects":"s3cret","payload":"s3cret"}"#,
        r#""s3cret""#,
    ] {
        for headers in [
            &[][..],
            &[(API_KEY_HEADER, "s3cret")],
            &[(API_KEY_HEADER, KEY)],
        ] {
            for path in [
                "/internal/publish",
                "/internal/disconnect",
                "/internal/s3cret",
            ] {
                let answer = api.send("POST", path, headers, body.as_bytes()).await;
                let text = std::str::from_utf8(&answer.body).unwrap();
                assert!(!text.contains("s3cret") && !text.contains(KEY), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn unknown_paths_are_problems() {
    let api = Api::new();
    for path in [
        "/",
        "/nothing",
        "/healthy",
        "/health/x",
        "/internalx",
        "/%69nternal/publish",
    ] {
        api.call("GET", path, "").await.problem(404);
        api.call("POST", path, "{}").await.problem(404);
    }
    for path in [
        "/internal",
        "/internal/",
        "/internal/users//connections",
        "/internal/users/7",
    ] {
        api.call("GET", path, "").await.problem(404);
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let api = Api::new();
    for route in ROUTES {
        let path = route.template.replace("{user_id}", "7");
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW",
        ] {
            let answer = api.call(method, &path, "").await;
            if route
                .verb
                .allow()
                .split(", ")
                .any(|allowed| allowed == method)
            {
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                answer.problem(405);
                assert_eq!(answer.header("allow"), Some(route.verb.allow()));
            }
        }
    }
}

#[tokio::test]
async fn the_public_surface_has_no_api() {
    let api = Api::new();
    let key = [(API_KEY_HEADER, KEY)];
    for path in [
        "/health",
        "/ready",
        "/metrics",
        "/internal/connections",
        "/internal/x",
        "/",
    ] {
        api.send_to(Surface::Public, "GET", path, &key, b"")
            .await
            .problem(404);
    }
    let answer = api
        .send_to(Surface::Internal, "GET", "/internal/connections", &key, b"")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn pages_stand_beside_the_api() {
    let api = Api::new();
    let page = warp::path::end()
        .or(warp::path("health"))
        .map(|_| warp::reply::html("page").into_response());
    for surface in [Surface::All, Surface::Public] {
        let filter = routes(Arc::clone(&api.state), surface, Some(page.boxed()));
        let get = async |uri: &str| {
            let request = http::Request::get(uri)
                .body(Full::<Bytes>::default())
                .unwrap();
            let response = warp::service(filter.clone())
                .oneshot(request)
                .await
                .unwrap();
            let status = response.status().as_u16();
            (
                status,
                response.into_body().collect().await.unwrap().to_bytes(),
            )
        };
        assert_eq!(get("/").await, (200, Bytes::from_static(b"page")));
        assert_eq!(get("/nothing").await.0, 404);
        let health = get("/health").await.1;
        assert_eq!(
            health == "page",
            surface == Surface::Public,
            "the API hides pages"
        );
    }
}
