//! SIGKILL, at any time.

use std::thread;
use std::time::{Duration, Instant};

use ha_ingestor::demo::random::Random;

use crate::oracle::{Story, seed, well};
use crate::world::{Mood, World};

const WORLDS: u64 = 4;
const ROUNDS: u64 = 50;

#[test]
fn killed_two_hundred_times_at_random_it_loses_nothing_that_was_acknowledged() {
    let seed = seed();
    thread::scope(|scope| {
        for world in 0..WORLDS {
            scope.spawn(move || killed_again_and_again(Random::of(seed, world)));
        }
    });
}

fn killed_again_and_again(mut random: Random) {
    let mut story = Story::new("strict");
    let (mut gained, mut acknowledged) = (0, 0);
    for _ in 0..ROUNDS {
        feel(&story.world, random.below(7));
        let service = story.start();
        let end = Instant::now() + Duration::from_millis(u64::from(random.below(1_500)));
        while Instant::now() < end {
            story.storm(u64::from(random.below(30)));
            if random.below(10) == 0 {
                feel(&story.world, random.below(7));
            }
            thread::sleep(Duration::from_millis(u64::from(random.below(40))));
        }
        story.kill(service);
        gained += usize::from(story.acknowledged() > acknowledged);
        acknowledged = story.acknowledged();
    }
    assert!(gained > 10, "only {gained} rounds acknowledged anything");
    feel(&story.world, 0);
    well(&story);
    let service = story.start();
    story.finish(service);
}

/// The database up, down, slow or silent.
fn feel(world: &World, mood: u32) {
    let database = &world.database;
    if database.is_open() && mood == 6 {
        return database.close();
    }
    if !database.is_open() {
        world.open_database();
    }
    database.is(match mood {
        2 => Mood::Late(Duration::from_millis(300)),
        3 => Mood::Silent,
        4 => Mood::TakesSilently,
        5 => Mood::Says(503, "busy"),
        _ => Mood::Well,
    });
}
