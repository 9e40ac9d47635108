//! Entities: changes of one value, one after the other.

use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::store::{EntityChange, EntityChanged, EntityValue};

use super::*;

/// The call `id` sets the entity to this value, if it has this version.
fn change<'a>(id: &'a str, expected: u64, value: Option<&'a [u8]>) -> EntityChange<'a> {
    EntityChange { kind: "Cart", key: "k", call: id, expected, value, result: id.as_bytes(), ..EntityChange::default() }
}

fn value(version: u64, value: &[u8]) -> EntityValue {
    EntityValue { version, value: Some(value.to_vec()) }
}

#[tokio::test]
async fn a_change_is_made_once_and_on_what_was_read() {
    on_both(async |scene| {
        let store = scene.store();
        assert_eq!(store.entity("Cart", "k").await.unwrap(), EntityValue::default());
        assert_eq!(store.change_entity(&change("a", 0, Some(b"1"))).await.unwrap(), EntityChanged::Made(1));
        // Another caller has read it before.
        let late = store.change_entity(&change("b", 0, Some(b"9"))).await.unwrap();
        assert_eq!(late, EntityChanged::Changed(value(1, b"1")));
        assert_eq!(store.change_entity(&change("b", 1, Some(b"2"))).await.unwrap(), EntityChanged::Made(2));
        // A repetition gets the earlier answer, whatever it has read.
        for expected in [0, 1, 2] {
            let again = EntityChange { result: b"other", ..change("a", expected, Some(b"7")) };
            assert_eq!(store.change_entity(&again).await.unwrap(), EntityChanged::Known(b"a".to_vec()));
        }
        // A call that changes nothing is remembered too.
        assert_eq!(store.change_entity(&change("c", 2, None)).await.unwrap(), EntityChanged::Made(2));
        assert_eq!(store.change_entity(&change("c", 2, None)).await.unwrap(), EntityChanged::Known(b"c".to_vec()));
        assert_eq!(store.entity("Cart", "k").await.unwrap(), value(2, b"2"));
        assert_eq!(store.entity("Cart", "other").await.unwrap(), EntityValue::default());
        assert_eq!(store.entity("Order", "k").await.unwrap(), EntityValue::default());
    })
    .await;
}

#[tokio::test]
async fn what_is_cleared_is_gone_and_its_last_calls_are_known_for_a_day() {
    on_both(async |scene| {
        let store = scene.store();
        store.change_entity(&change("a", 0, Some(b"1"))).await.unwrap();
        let clear = EntityChange { clears: true, ..change("b", 1, None) };
        assert_eq!(store.change_entity(&clear).await.unwrap(), EntityChanged::Made(2));
        assert_eq!(store.entity("Cart", "k").await.unwrap(), EntityValue { version: 2, value: None });
        let late = store.change_entity(&change("c", 1, Some(b"9"))).await.unwrap();
        assert_eq!(late, EntityChanged::Changed(EntityValue { version: 2, value: None }), "read before it was cleared");
        assert_eq!(
            store.change_entity(&change("a", 2, Some(b"9"))).await.unwrap(),
            EntityChanged::Known(b"a".to_vec())
        );
        scene.pass(24 * HOUR).await;
        assert_eq!(store.entity("Cart", "k").await.unwrap(), EntityValue::default());
        assert_eq!(store.change_entity(&change("d", 0, Some(b"1"))).await.unwrap(), EntityChanged::Made(1));
        scene.pass(1000 * HOUR).await;
        assert_eq!(store.entity("Cart", "k").await.unwrap(), value(1, b"1"), "it is kept for ever");
    })
    .await;
}

#[tokio::test]
async fn an_entity_expires_when_it_has_not_been_changed_for_long_enough() {
    on_both(async |scene| {
        let store = scene.store();
        let expires_after = Some(HOUR);
        let brief = |id, expected| EntityChange { expires_after, ..change(id, expected, Some(b"1")) };
        store.change_entity(&brief("a", 0)).await.unwrap();
        scene.pass_almost(HOUR).await;
        assert_eq!(store.change_entity(&brief("b", 1)).await.unwrap(), EntityChanged::Made(2));
        scene.pass_almost(HOUR).await;
        assert_eq!(store.entity("Cart", "k").await.unwrap().version, 2);
        scene.pass(scene.moment()).await;
        assert_eq!(store.entity("Cart", "k").await.unwrap(), EntityValue::default());
        // The last change decides how long it is kept.
        store.change_entity(&brief("c", 0)).await.unwrap();
        store.change_entity(&change("d", 1, Some(b"2"))).await.unwrap();
        scene.pass(2 * HOUR).await;
        assert_eq!(store.entity("Cart", "k").await.unwrap(), value(2, b"2"));
    })
    .await;
}

#[tokio::test]
async fn the_oldest_calls_are_forgotten_when_their_results_are_too_large() {
    on_both(async |scene| {
        let store = scene.store();
        let large = vec![7; 1024 * 1024];
        let with = |id, expected| EntityChange { result: &large, ..change(id, expected, Some(b"1")) };
        for (n, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            assert_eq!(store.change_entity(&with(id, n as u64)).await.unwrap(), EntityChanged::Made(n as u64 + 1));
        }
        // Three are remembered: a fourth exceeds the limit, together with its id.
        assert_eq!(store.change_entity(&with("a", 4)).await.unwrap(), EntityChanged::Made(5));
        for known in ["c", "d", "a"] {
            assert_eq!(store.change_entity(&with(known, 5)).await.unwrap(), EntityChanged::Known(large.clone()));
        }
        let larger = vec![7; 5 * 1024 * 1024];
        let whole = EntityChange { result: &larger, ..change("e", 5, Some(b"1")) };
        assert_eq!(store.change_entity(&whole).await.unwrap(), EntityChanged::Made(6));
        assert_eq!(store.change_entity(&whole).await.unwrap(), EntityChanged::Known(larger.clone()), "the last one");
        assert_eq!(store.change_entity(&with("d", 6)).await.unwrap(), EntityChanged::Made(7));
    })
    .await;
}
