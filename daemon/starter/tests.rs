//! The driver in the SDK's harness: no daemon, no root. Where the daemon would refuse an answer, the harness fails the test and names the rule.

use super::*;

fn harness() -> Harness {
    Harness::new().folder(FOLDER, 1 << 40)
}

#[test]
fn a_volume_lives_from_create_to_delete() {
    let harness = harness();
    let facts = CreateFacts::new("pvc-1", 1 << 30, Capability::mount(None));
    let volume = harness.create_volume::<Driver>(&facts).unwrap();
    assert_eq!(harness.create_volume::<Driver>(&facts).unwrap(), volume);
    let plan = harness.attach::<Driver>(&VolumeFacts::new(&volume.id, Capability::mount(None))).unwrap();
    assert_eq!(plan.source, Source::file(FOLDER, &volume.id));
    assert_eq!(harness.expand::<Driver>(&volume.id, 2 << 30, 0).unwrap().capacity, 2 << 30);
    for _ in 0..2 {
        harness.delete_volume::<Driver>(&volume.id).unwrap();
    }
}

#[test]
fn another_wish_under_the_same_name_is_refused() {
    let harness = harness();
    let facts = CreateFacts::new("pvc-1", 1 << 30, Capability::mount(None));
    harness.create_volume::<Driver>(&facts).unwrap();
    let larger = CreateFacts { capacity: CapacityRange { required: 2 << 30, limit: 0 }, ..facts.clone() };
    let raw = CreateFacts { capabilities: vec![Capability::block()], ..facts.clone() };
    for other in [larger, raw] {
        assert_eq!(harness.create_volume::<Driver>(&other).unwrap_err().code(), "ALREADY_EXISTS");
    }
    let misspelt = CreateFacts { parameters: Context::from([("encrypetd", "true")]), ..facts };
    assert_eq!(harness.create_volume::<Driver>(&misspelt).unwrap_err().code(), "INVALID_ARGUMENT");
}
