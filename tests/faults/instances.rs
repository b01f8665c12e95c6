//! Two on one folder.

use std::time::Duration;

use crate::oracle::Story;
use crate::service::Service;

#[test]
fn a_second_one_on_the_same_data_is_refused_and_the_first_goes_on() {
    let mut story = Story::new("strict");
    story.world.database.close();
    let mut service = story.start();
    story.storm(100);
    story.wait_until_safe(&mut service);
    for _ in 0..3 {
        let Err((status, said)) = Service::try_start_at(&story.place, story.command(&story.options)) else {
            panic!("a second one runs");
        };
        assert!(status.code().is_some_and(|code| code != 0), "{status}");
        assert!(said.contains("another") && said.contains(story.place.data().to_str().unwrap()), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    story.storm(100);
    story.world.open_database();
    story.finish_complete(service);
}

#[test]
fn the_data_of_one_that_was_killed_can_be_used_at_once() {
    let mut story = Story::new("strict");
    for _ in 0..3 {
        let mut service = story.start();
        story.storm(50);
        story.wait_until_safe(&mut service);
        story.kill(service);
    }
    let mut service = story.start();
    assert!(service.exit_code(Duration::from_secs(10)) == Some(0));
    let service = story.start();
    story.finish_complete(service);
}
