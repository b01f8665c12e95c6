//! Listening to a real broker: what comes, what comes again, and what is acknowledged when.

mod listener;
mod login;

use std::fmt::Write;
use std::time::Duration;

use ha_ingestor::model::event::Message;
use ha_ingestor::status::snapshot::LinkState;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::mosquitto::{Mosquitto, PERSISTENT};
use listener::{Listener, WAITING, broker};

const ALL: &[(&str, bool)] = &[("#", false)];

/// What a broker does when it is told nothing takes no longer than this.
const A_MOMENT: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_acknowledged_when_it_is_safe_and_comes_again_after_a_crash_until_then() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, &[("home/+/state", false)]).await;
    for payload in ["1", "2", "3"] {
        mosquitto.publish("home/a/state", payload);
    }
    mosquitto.publish("elsewhere", "4");
    let messages = listener.messages(3).await;
    let seen: Vec<_> = messages.iter().map(|message| (message.receipt, &*message.topic, &*message.payload)).collect();
    assert_eq!(seen, [(1, "home/a/state", b"1" as &[u8]), (2, "home/a/state", b"2"), (3, "home/a/state", b"3")]);
    assert!(messages.iter().all(|message| !message.retained));
    sleep(A_MOMENT).await;
    assert_eq!(listener.seen().mqtt.unacknowledged, 3);
    listener.safe.send_replace(2);
    listener.until("two are acknowledged", |seen| seen.mqtt.unacknowledged == 1).await;
    sleep(A_MOMENT).await;
    listener.crash().await;

    let mut listener = Listener::ready(broker(&mosquitto), &data, &[("home/+/state", false)]).await;
    assert_eq!(listener.payloads(1).await, ["3"]);
    listener.safe.send_replace(1);
    listener.until("it is acknowledged", |seen| seen.mqtt.unacknowledged == 0).await;
    listener.stop().await;
    let mut listener = Listener::ready(broker(&mosquitto), &data, &[("home/+/state", false)]).await;
    sleep(A_MOMENT).await;
    listener.nothing_more();
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_stop_what_becomes_safe_within_a_moment_is_acknowledged() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    mosquitto.publish("a", "1");
    listener.messages(1).await;
    let safe = listener.safe.clone();
    let ((), ()) = tokio::join!(listener.stop(), async {
        sleep(A_MOMENT).await;
        safe.send_replace(1);
    });
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    sleep(A_MOMENT).await;
    listener.nothing_more();
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_from_a_broker_that_was_killed_is_handed_over_once() {
    let Some(mut mosquitto) = Mosquitto::start(PERSISTENT) else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    for number in 0..20 {
        mosquitto.publish("a", &number.to_string());
    }
    assert_eq!(listener.payloads(20).await, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    mosquitto.save();
    mosquitto.kill();
    listener.until("the loss is noticed", |seen| seen.mqtt.link.state == LinkState::Failing).await;
    mosquitto.start_again();
    listener.until("all came again", |seen| seen.mqtt.redelivered == 20).await;
    mosquitto.publish("a", "after");
    assert_eq!(listener.payloads(1).await, ["after"]);
    listener.safe.send_replace(21);
    listener.until("all are acknowledged", |seen| seen.mqtt.unacknowledged == 0).await;
    assert_eq!((listener.seen().mqtt.messages, listener.seen().arrivals.received()), (41, 21));
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_we_are_away_waits_through_a_restart_of_the_broker() {
    let Some(mut mosquitto) = Mosquitto::start(PERSISTENT) else { return };
    let data = TempDir::new().unwrap();
    Listener::ready(broker(&mosquitto), &data, ALL).await.stop().await;
    for number in 0..5 {
        mosquitto.publish("a", &number.to_string());
    }
    mosquitto.stop();
    mosquitto.start_again();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    assert_eq!(listener.payloads(5).await, ["0", "1", "2", "3", "4"]);
    listener.safe.send_replace(5);
    listener.until("all are acknowledged", |seen| seen.mqtt.unacknowledged == 0).await;
    sleep(A_MOMENT).await;
    mosquitto.stop();
    listener.until("the loss is noticed", |seen| seen.mqtt.link.state == LinkState::Failing).await;
    mosquitto.start_again();
    listener.until_subscribed().await;
    mosquitto.publish("a", "after");
    assert_eq!(listener.payloads(1).await, ["after"]);
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_come_only_where_they_are_asked_for_and_once() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    mosquitto.publish_retained("kept/unwanted", "old");
    mosquitto.publish_retained("kept/wanted", "old");
    let topics = &[("kept/unwanted", false), ("kept/wanted", true)];
    let mut listener = Listener::ready(broker(&mosquitto), &data, topics).await;
    let message = listener.messages(1).await.remove(0);
    assert_eq!((&*message.topic, message.retained), ("kept/wanted", true));
    listener.safe.send_replace(1);
    listener.until("it is acknowledged", |seen| seen.mqtt.unacknowledged == 0).await;
    listener.stop().await;
    let mut listener = Listener::ready(broker(&mosquitto), &data, topics).await;
    sleep(A_MOMENT).await;
    listener.nothing_more();
    // Asked for later, they come; and what is sent now is not retained, though the broker keeps it.
    listener.change_rules(&[("kept/unwanted", true), ("kept/wanted", true)]);
    let message = listener.messages(1).await.remove(0);
    assert_eq!((&*message.topic, message.retained), ("kept/unwanted", true));
    mosquitto.publish_retained("kept/wanted", "new");
    assert!(!listener.messages(1).await[0].retained);
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_retained_messages_is_not_even_sent() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    publish_many_retained(&mosquitto, 10_000).await;
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    mosquitto.publish("a", "now");
    assert_eq!(listener.payloads(1).await, ["now"]);
    assert_eq!(listener.seen().mqtt.messages, 1);
    listener.stop().await;
}

async fn publish_many_retained(mosquitto: &Mosquitto, count: usize) {
    let options = MqttOptions::new("flood", mosquitto.address.ip().to_string(), mosquitto.address.port());
    let (client, mut packets) = AsyncClient::new(options, 10);
    let mut confirmed = 0;
    let send = async {
        for number in 0..count {
            client.publish(format!("kept/{number}"), QoS::AtLeastOnce, true, "old").await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let hear = async {
        while confirmed < count {
            if let Event::Incoming(Packet::PubAck(_)) = packets.poll().await.unwrap() {
                confirmed += 1;
            }
        }
    };
    tokio::select! {
        () = send => unreachable!("it waits to be heard"),
        () = hear => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_arrives_in_order_and_waits_at_the_broker_while_nobody_takes_it() {
    const COUNT: usize = 20_000;
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    let lines = (0..COUNT).fold(String::new(), |mut lines, number| {
        writeln!(lines, "{number}").unwrap();
        lines
    });
    let mosquitto = tokio::task::spawn_blocking(move || {
        mosquitto.publish_lines("flood", &lines);
        mosquitto
    })
    .await
    .unwrap();
    sleep(A_MOMENT).await;
    let read = listener.seen().mqtt.messages;
    assert!(read > 0 && read <= 256 * (WAITING as u64 + 2), "{read} messages are in our memory");
    let mut next = 0;
    while next < COUNT {
        for message in listener.some().await {
            assert_eq!(&*message.payload, next.to_string().as_bytes());
            next += 1;
            listener.safe.send_replace(message.receipt);
        }
    }
    listener.until("all are acknowledged", |seen| seen.mqtt.unacknowledged == 0).await;
    assert_eq!(listener.seen().mqtt.messages, COUNT as u64);
    drop(mosquitto);
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_is_too_large_is_handed_over_shortened_and_the_next_one_whole() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    mosquitto.publish_with(&["-t", "large"], &vec![b'x'; 5 << 20]);
    mosquitto.publish_with(&["-t", "just"], &vec![b'x'; Message::MOST_PAYLOAD_BYTES]);
    mosquitto.publish("small", "1");
    let lengths: Vec<usize> = listener.messages(3).await.iter().map(|message| message.payload.len()).collect();
    assert_eq!(lengths, [Message::MOST_PAYLOAD_BYTES + 1, Message::MOST_PAYLOAD_BYTES, 1]);
    assert!(listener.seen().mqtt.message_bytes > 6 << 20);
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_topics_and_payloads_arrive_as_they_are() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, ALL).await;
    // mosquitto allows 200 slashes.
    let deep = vec!["x"; 200].join("/");
    let topics = ["Küche/Temperatur °C", "a b/ c ", "//", "/", "a//b", "🌡️", &deep];
    for topic in topics {
        mosquitto.publish_with(&["-t", topic], b"\xff\x00\n");
    }
    let messages = listener.messages(topics.len()).await;
    assert_eq!(messages.iter().map(|message| &*message.topic).collect::<Vec<_>>(), topics);
    assert!(messages.iter().all(|message| &*message.payload == b"\xff\x00\n"));
    mosquitto.publish_with(&["-t", "empty"], b"");
    assert!(listener.messages(1).await[0].payload.is_empty());
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_two_filters_match_is_one_message() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::ready(broker(&mosquitto), &data, &[("+/b", false), ("a/+", false)]).await;
    for payload in ["same", "same", "other"] {
        mosquitto.publish("a/b", payload);
    }
    assert_eq!(listener.payloads(3).await, ["same", "same", "other"]);
    listener.until("the copies came", |seen| seen.mqtt.copies == 3).await;
    listener.nothing_more();
    listener.safe.send_replace(3);
    listener.until("copies are acknowledged too", |seen| seen.mqtt.unacknowledged == 0).await;
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_rules_mean_other_subscriptions_and_none_mean_no_connection() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let mut listener = Listener::start(broker(&mosquitto), &data, &[]);
    listener.until("it says why", |seen| seen.mqtt.link.detail.contains("rules.yaml")).await;
    assert_eq!(listener.seen().mqtt.link.state, LinkState::NotConfigured);
    listener.change_rules(&[("old/#", false)]);
    listener.until_subscribed().await;
    mosquitto.publish("old/a", "1");
    assert_eq!(listener.payloads(1).await, ["1"]);
    listener.change_rules(&[("new/#", false)]);
    sleep(A_MOMENT).await;
    mosquitto.publish("old/a", "2");
    mosquitto.publish("new/a", "3");
    assert_eq!(listener.payloads(1).await, ["3"]);
    listener.safe.send_replace(2);
    listener.stop().await;
    // Another run with other rules gives up what the broker still knows.
    let mut listener = Listener::ready(broker(&mosquitto), &data, &[("newest", false)]).await;
    mosquitto.publish("new/a", "4");
    mosquitto.publish("newest", "5");
    assert_eq!(listener.payloads(1).await, ["5"]);
    listener.change_rules(&[]);
    listener.until("there is nothing to do", |seen| seen.mqtt.link.state == LinkState::NotConfigured).await;
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_knows_whether_we_are_there() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let topic = "ha-ingestor/+/availability";
    let listener = Listener::ready(broker(&mosquitto), &data, &[("a", false)]).await;
    assert_eq!(mosquitto.retained(topic).as_deref(), Some("online"));
    listener.stop().await;
    assert_eq!(mosquitto.retained(topic).as_deref(), Some("offline"), "after an orderly stop");
    let listener = Listener::ready(broker(&mosquitto), &data, &[("a", false)]).await;
    assert_eq!(mosquitto.retained(topic).as_deref(), Some("online"));
    listener.crash().await;
    assert_eq!(mosquitto.retained(topic).as_deref(), Some("offline"), "after a crash");
}
