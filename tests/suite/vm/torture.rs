//! The long way round of what other modules try shortly: `make torture`, and no part of `make test-vm`.

use super::{clusters, controller, counts, deaths};
use crate::crash::{Content, Verb};

#[test]
fn vm_rbd_every_other_death_around_a_file_system() {
    let file_system = deaths::file_system();
    deaths::sweep(Verb::Stage, &file_system, Content::Nothing, 9, &deaths::OTHER_TWO);
    deaths::sweep(Verb::Stage, &file_system, Content::Data, 5, &[deaths::TWO, deaths::OTHER_TWO].concat());
    for (verb, lines) in [(Verb::Publish, 3), (Verb::Unpublish, 2), (Verb::Unstage, 4)] {
        deaths::sweep(verb, &file_system, Content::Data, lines, &deaths::OTHER_TWO);
    }
}

#[test]
fn vm_rbd_every_death_around_a_raw_volume() {
    for (verb, lines) in [(Verb::Stage, 5), (Verb::Publish, 3), (Verb::Unpublish, 2), (Verb::Unstage, 4)] {
        deaths::sweep(verb, &deaths::raw(), Content::Data, lines, &[deaths::TWO, deaths::OTHER_TWO].concat());
    }
}

#[test]
fn vm_rbd_two_hundred_rounds_between_two_clusters() {
    clusters::alternate(200);
}

#[test]
fn vm_rbd_effects_killed_at_every_message() {
    controller::effects_die(&controller::ALL, 1);
}

#[test]
fn vm_rbd_a_daemon_killed_at_forty_moments() {
    controller::daemon_dies(&controller::ALL, 40);
}

#[test]
fn vm_rbd_creating_costs_the_same_at_ten_thousand_volumes() {
    counts::creating_costs_the_same(&[10, 1000, 10_000]);
}
