//! Who makes the spans: the resource and the scope that every export begins with.
//!
//! Stands beside the exporters, made once for each configuration.

use percent_encoding::percent_decode_str;

use super::encode::{field, string};
use crate::config::TracingConfig;

/// The encoded fields that stand before the spans of a collector's request.
#[derive(Debug, Clone, Default)]
pub(super) struct Resource {
    /// The resource, as a field of `ResourceSpans`.
    pub(super) resource: Vec<u8>,
    /// The scope, as a field of `ScopeSpans`.
    pub(super) scope: Vec<u8>,
}

/// The gateway's attributes in traces.
pub(super) fn attributes(config: &TracingConfig, node_id: &str) -> Vec<(String, String)> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| {
        attributes.retain(|(known, _)| known != key);
        attributes.push((key.to_owned(), value.to_owned()));
    };
    set("host.name", &gethostname::gethostname().to_string_lossy());
    set("service.instance.id", node_id);
    set("service.version", env!("CARGO_PKG_VERSION"));
    set("service.name", "wsgw");
    for pair in config.resource_attributes.split(',') {
        if let Some((key, value)) = pair.split_once('=') {
            let value = percent_decode_str(value.trim()).decode_utf8_lossy();
            set(key.trim(), &value);
        }
    }
    if !config.service_name.is_empty() {
        set("service.name", &config.service_name);
    }
    attributes
}

impl Resource {
    pub(super) fn new(attributes: &[(String, String)]) -> Self {
        let mut inner = Vec::new();
        for (key, value) in attributes {
            let (mut any, mut pair) = (Vec::new(), Vec::new());
            field(&mut any, 1, value.as_bytes());
            field(&mut pair, 1, key.as_bytes());
            field(&mut pair, 2, &any);
            field(&mut inner, 1, &pair);
        }
        let mut named = Vec::new();
        field(&mut named, 1, b"wsgw");
        field(&mut named, 2, env!("CARGO_PKG_VERSION").as_bytes());
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        field(&mut resource, 1, &inner);
        field(&mut scope, 1, &named);
        Self { resource, scope }
    }
}

/// What stands before a span on a line of OTLP/JSON, and what after it.
pub(super) fn json_around(attributes: &[(String, String)]) -> (Vec<u8>, &'static [u8]) {
    let mut before = b"{\"resourceSpans\":[{\"resource\":{\"attributes\":[".to_vec();
    for (at, (key, value)) in attributes.iter().enumerate() {
        before.extend_from_slice(if at == 0 { b"{\"key\":" } else { b",{\"key\":" });
        string(&mut before, key);
        before.extend_from_slice(b",\"value\":{\"stringValue\":");
        string(&mut before, value);
        before.extend_from_slice(b"}}");
    }
    before.extend_from_slice(b"]},\"scopeSpans\":[{\"scope\":{\"name\":\"wsgw\",\"version\":\"");
    before.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    before.extend_from_slice(b"\"},\"spans\":[");
    (before, b"]}]}]}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_win_over_attributes_and_those_over_what_is_known() {
        let config = TracingConfig {
            service_name: "edge".into(),
            resource_attributes:
                "service.name=x, deployment.environment.name=a%2Cb,host.name=h,bad".into(),
            ..TracingConfig::default()
        };
        let found = attributes(&config, "node-1");
        let value = |key: &str| {
            let mut values = found.iter().filter(|(known, _)| known == key);
            let value = values.next().map(|(_, value)| value.as_str());
            assert_eq!(values.next(), None);
            value
        };
        assert_eq!(value("service.name"), Some("edge"));
        assert_eq!(value("service.instance.id"), Some("node-1"));
        assert_eq!(value("deployment.environment.name"), Some("a,b"));
        assert_eq!(value("host.name"), Some("h"));
        assert_eq!(value("bad"), None);
    }
}
