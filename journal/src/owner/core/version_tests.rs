//! The two releases of a new version of the rule: the first one supports it, and the second one announces it.

use super::fixture::{NOW, Notes, PARTITIONS, TOPIC};
use super::state::Core;
use crate::{
    probe::Event,
    protocol::{CorrectProtocol, OwnerProtocol, RuleProtocol},
    rule::{Alarm, Breach, RULE_VERSION_ANNOUNCED, RULE_VERSION_KNOWN, Rule, Verdict},
    store::Memory,
};
use kafka::Encoder;
use schemas::ContextEvent;
use std::sync::Arc;

const NEXT: i32 = RULE_VERSION_KNOWN + 1;

/// The first release: it supports the next version, and announces the current one.
#[derive(Debug, Clone, PartialEq)]
struct Knows;

impl RuleProtocol for Knows {
    fn known_rule_version() -> i32 {
        NEXT
    }
}

impl OwnerProtocol for Knows {}

/// The second release: it announces the next version.
#[derive(Debug, Clone, PartialEq)]
struct Announces;

impl RuleProtocol for Announces {
    fn known_rule_version() -> i32 {
        NEXT
    }
}

impl OwnerProtocol for Announces {
    fn announced_rule_version() -> i32 {
        NEXT
    }
}

/// Lets a reader with the rule `R` judge the announcement of an owner with the protocol `P`. Returns the verdict, and
/// the rule version in the reader's checkpoint.
fn judged<P: OwnerProtocol, R: RuleProtocol>() -> (Result<Verdict, Alarm>, i32) {
    let encoder = Encoder::new(7, &Event::CONTEXT.schema()).unwrap();
    let store = Arc::new(Memory::default());
    let mut owner = Core::<Notes, u32, P>::new(Notes, TOPIC, 0, encoder, store);
    let announcement = owner
        .announce("http://here", PARTITIONS, [1; 16], NOW)
        .unwrap();
    let mut rule = Rule::<R>::start(TOPIC, 0);
    let verdict = rule.judge(0, Some(b""), Some(&announcement.value));
    (verdict, rule.checkpoint().rule_version)
}

#[test]
fn announcements_of_the_first_release_are_valid_for_older_readers() {
    let (verdict, version) = judged::<Knows, CorrectProtocol>();
    assert!(
        matches!(verdict, Ok(Verdict::Valid(_))),
        "{verdict:?} instead of Ok(Verdict::Valid)"
    );
    assert_eq!(version, RULE_VERSION_ANNOUNCED);
}

#[test]
fn announcements_of_the_second_release_are_valid_for_the_first_release_only() {
    let (verdict, version) = judged::<Announces, Knows>();
    assert!(
        matches!(verdict, Ok(Verdict::Valid(_))),
        "{verdict:?} instead of Ok(Verdict::Valid)"
    );
    assert_eq!(version, NEXT);
    let (verdict, _) = judged::<Announces, CorrectProtocol>();
    let breach = match verdict {
        Err(Alarm::ChainBroken { breach, .. }) => breach,
        other => panic!("{other:?} instead of ChainBroken"),
    };
    let expected = (RULE_VERSION_KNOWN, NEXT);
    assert!(
        matches!(breach, Breach::NewerRule { known, found } if (known, found) == expected),
        "{breach:?} instead of NewerRule with {expected:?}"
    );
}
