//! Names the part of the inbox that a message goes to: its Redis stream, its `RabbitMQ` routing key.
//!
//! Stands between the deliveries, which keep the order within a key, and the broker sinks, which ask here where an
//! event goes. What backends compute for themselves is written down in docs/core.md: a shard is the CRC-32 of a key
//! (CRC-32/ISO-HDLC, PHP's `crc32()`) modulo the number of shards.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::Deserialize;
use sha1::{Digest, Sha1};
use uuid::Uuid;

use super::{OrderingKeyConfig, OrderingStrategy, PartitionMode};
use crate::config::Config;
use crate::event::{Event, EventKind};
use crate::stages::StageConfig;

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// How a configuration splits the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// Not at all.
    One,
    /// One part for each ordering key, whose name is the key of at most so many characters (0: no limit).
    Keys {
        /// Characters of a key at most.
        max_len: usize,
    },
    /// So many parts, named from 0.
    Shards(u16),
}

impl Partitions {
    /// That of a configuration: the first stage that splits decides.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let stages = config.stages.iter().filter_map(|stage| match stage {
            StageConfig::OrderingKey(stage) => Some(Self::of_stage(stage)),
            _ => None,
        });
        let mut splitting = stages.filter(|partitions| *partitions != Self::One);
        splitting.next().unwrap_or(Self::One)
    }

    /// That of one stage.
    #[must_use]
    pub fn of_stage(stage: &OrderingKeyConfig) -> Self {
        match stage.partition_mode {
            PartitionMode::None => Self::One,
            PartitionMode::Suffix => Self::Keys {
                max_len: stage.partition_max_len,
            },
            PartitionMode::Shards => Self::Shards(stage.partitions.max(1)),
        }
    }

    /// What follows the inbox's name, as documentation and pictures have it: `{key}` or `{0-15}`.
    #[must_use]
    pub fn pattern(config: &Config) -> Option<String> {
        match Self::of(config) {
            Self::One => None,
            Self::Keys { .. } => {
                let has_keys = |stage: &StageConfig| {
                    matches!(stage, StageConfig::OrderingKey(stage)
                        if stage.partition_mode == PartitionMode::Suffix
                            && stage.strategy != OrderingStrategy::None)
                };
                config
                    .stages
                    .iter()
                    .any(has_keys)
                    .then(|| "{key}".to_owned())
            }
            Self::Shards(1) => Some("0".to_owned()),
            Self::Shards(count) => Some(format!("{{0-{}}}", count - 1)),
        }
    }

    /// The numbers of all parts, where they are known.
    #[must_use]
    pub fn shards(self) -> Range<u16> {
        match self {
            Self::Shards(count) => 0..count,
            Self::One | Self::Keys { .. } => 0..0,
        }
    }

    /// The shard of an event; none where there are none, and for what is not split.
    #[must_use]
    pub fn shard_of(self, event: &Event) -> Option<u16> {
        match (self, event.kind) {
            (Self::Shards(count), EventKind::MessageReceived) => Some(match &event.ordering_key {
                Some(key) => shard(key, count),
                None => shard_of_connection(event.connection_id, count),
            }),
            _ => None,
        }
    }

    /// The shard of what was an event once, by its JSON; of what is none, that of an empty key.
    #[must_use]
    pub fn shard_of_json(self, json: &[u8]) -> Option<u16> {
        let Self::Shards(count) = self else {
            return None;
        };
        let known: Known<'_> = serde_json::from_slice(json).unwrap_or_default();
        let key = known.ordering_key.or(known.connection_id);
        Some(shard(key.as_deref().unwrap_or_default(), count))
    }
}

/// The members of an event that say where it goes.
#[derive(Default, Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    ordering_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection_id: Option<Cow<'a, str>>,
}

/// The shard of a key among so many: the CRC-32 of its bytes modulo their number.
#[must_use]
pub fn shard(key: &str, count: u16) -> u16 {
    let shard = CRC32.checksum(key.as_bytes()) % u32::from(count.max(1));
    // A remainder is below what was divided by.
    u16::try_from(shard).unwrap_or_default()
}

/// The shard of messages without a key, by their connection's id as events have it.
fn shard_of_connection(id: Uuid, count: u16) -> u16 {
    let mut text = Uuid::encode_buffer();
    shard(id.hyphenated().encode_lower(&mut text), count)
}

/// Makes a key fit for a stream's name or a routing key: trimmed, hashed when longer than `max_len` characters
/// (0: no limit), and every character outside `A-Za-z0-9._:-` replaced by `_`.
#[must_use]
pub fn partition(key: &str, max_len: usize) -> String {
    let key = key.trim();
    if max_len > 0 && key.chars().count() > max_len {
        return Sha1::digest(key.as_bytes()).iter().fold(
            String::with_capacity(40),
            |mut hex, byte| {
                // Writing to a string cannot fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            },
        );
    }
    key.chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | ':' | '-' => c,
            _ => '_',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same vectors as in the bundle's tests (`ShardTest`) and in docs/core.md.
    const VECTORS: &[(&str, u32, u16)] = &[
        ("", 0x0000_0000, 0),
        ("123456789", 0xcbf4_3926, 6),
        ("room:123", 0x8636_d9fe, 14),
        ("room:7", 0x5214_29a5, 5),
        ("user:42", 0x646f_0d86, 6),
        ("a b/é", 0x5e48_f3cc, 12),
        (" padded ", 0x1f81_8792, 2),
        ("日本", 0xc7b7_cdcc, 12),
        ("0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02", 0x8b2d_40cf, 15),
    ];

    #[test]
    fn shards_are_those_of_php() {
        for (key, crc, of_16) in VECTORS {
            assert_eq!(CRC32.checksum(key.as_bytes()), *crc, "{key}");
            assert_eq!(shard(key, 16), *of_16, "{key}");
            assert_eq!(shard(key, 1), 0, "{key}");
        }
    }

    #[test]
    fn a_connection_is_a_key_as_events_spell_it() {
        let id = Uuid::from_u128(0x0192_F5A8_4D2A_7C55_B3E7_1F4D_8A6C_9E02);
        let as_text = shard("0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02", 1024);
        assert_eq!(shard_of_connection(id, 1024), as_text);
        assert_eq!(shard_of_connection(id, 1024), shard(&id.to_string(), 1024));
    }

    #[test]
    fn what_was_stored_goes_where_the_event_went() {
        let sharded = Partitions::Shards(16);
        for (json, expected) in [
            (r#"{"ordering_key":"room:\u0037","connection_id":"x"}"#, 5),
            (
                r#"{"connection_id":"0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02"}"#,
                15,
            ),
            ("{}", 0),
            ("no event", 0),
        ] {
            let found = sharded.shard_of_json(json.as_bytes());
            assert_eq!(found, Some(expected), "{json}");
        }
        assert_eq!(Partitions::One.shard_of_json(b"{}"), None);
    }

    #[test]
    fn the_first_stage_that_splits_decides() {
        let stage = |partition_mode, partitions| {
            StageConfig::OrderingKey(OrderingKeyConfig {
                partition_mode,
                partitions,
                ..OrderingKeyConfig::default()
            })
        };
        let mut config = Config::default();
        assert_eq!(Partitions::of(&config), Partitions::One);
        config.stages.push(stage(PartitionMode::None, 4));
        assert_eq!(Partitions::of(&config), Partitions::One);
        config.stages.push(stage(PartitionMode::Shards, 8));
        config.stages.push(stage(PartitionMode::Suffix, 9));
        assert_eq!(Partitions::of(&config), Partitions::Shards(8));
        assert_eq!(Partitions::of(&config).shards(), 0..8);
        assert_eq!(Partitions::pattern(&config).as_deref(), Some("{0-7}"));
    }

    #[test]
    fn partitions_are_fit_for_names() {
        assert_eq!(partition("room:123", 64), "room:123");
        assert_eq!(partition(" a b/é ", 64), "a_b__");
        assert_eq!(partition(&"x".repeat(64), 64), "x".repeat(64));
        assert_eq!(
            partition(&"é".repeat(64), 64),
            "_".repeat(64),
            "lengths are in characters"
        );
        assert_eq!(
            partition(&"x".repeat(65), 64),
            "78c741ddc482e4cdf8c474a0876347a0905b6233"
        );
        assert_eq!(partition(&"x".repeat(1000), 0).len(), 1000);
    }

    proptest! {
        #[test]
        fn partitions_hold_their_bounds(key in ".{0,200}", max_len in 0_usize..100) {
            let name = partition(&key, max_len);
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
            prop_assert!(name.chars().all(|c| allowed(c) || c == '_'));
            prop_assert!(max_len == 0 || name.chars().count() <= max_len.max(40));
            prop_assert_eq!(partition(&key, max_len), name);
        }

        #[test]
        fn shards_hold_their_bounds(key in ".{0,200}", count in 1_u16..=1024) {
            prop_assert!(shard(&key, count) < count);
        }
    }
}
