//! What one event costs at each stage of the pipe. `cargo bench --bench stages`; ns per event is the time of one
//! iteration.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ha_ingestor::line::encode::encode;
use ha_ingestor::model::point::{FieldValue, Point};
use ha_ingestor::model::time::Timestamp;

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 1_000)]
fn point_to_line_of_a_sensor_with_5_fields(bencher: Bencher) {
    bench_encode(
        bencher,
        &point(
            "°C",
            "sensor",
            "living_room_temperature",
            &[
                ("device_class_str", FieldValue::Text("temperature")),
                ("friendly_name_str", FieldValue::Text("Living room temperature")),
                ("precision", FieldValue::Float(1.0)),
                ("state_class_str", FieldValue::Text("measurement")),
                ("value", FieldValue::Float(21.47)),
            ],
        ),
    );
}

#[divan::bench(sample_size = 1_000)]
fn point_to_line_of_a_light_with_14_fields(bencher: Bencher) {
    bench_encode(
        bencher,
        &point(
            "light.kitchen_ceiling",
            "light",
            "kitchen_ceiling",
            &[
                ("brightness", FieldValue::Float(178.0)),
                ("color_mode_str", FieldValue::Text("color_temp")),
                ("color_temp", FieldValue::Float(366.0)),
                ("color_temp_kelvin", FieldValue::Float(2_732.0)),
                ("effect_list_str", FieldValue::Text("['rainbow', 'none']")),
                ("friendly_name_str", FieldValue::Text("Kitchen ceiling")),
                ("hs_color_str", FieldValue::Text("(28.391, 65.659)")),
                ("max_color_temp_kelvin", FieldValue::Float(6_535.0)),
                ("min_color_temp_kelvin", FieldValue::Float(2_000.0)),
                ("rgb_color_str", FieldValue::Text("(255, 167, 88)")),
                ("state", FieldValue::Text("on")),
                ("supported_color_modes_str", FieldValue::Text("['color_temp', 'xy']")),
                ("value", FieldValue::Float(1.0)),
                ("xy_color_str", FieldValue::Text("(0.524, 0.387)")),
            ],
        ),
    );
}

fn bench_encode(bencher: Bencher, point: &Point) {
    let mut line = Vec::with_capacity(4_096);
    let encoded = encode(point, &mut line).expect("the point can be written");
    assert_eq!(encoded.adjusted_texts, 0, "the usual point needs no cleaning");
    let bytes = line.len();
    bencher.counter(BytesCount::new(bytes)).counter(ItemsCount::new(1_usize)).bench_local(|| {
        line.clear();
        encode(black_box(point), black_box(&mut line))
    });
}

fn point(measurement: &str, domain: &str, entity_id: &str, fields: &[(&str, FieldValue<'_>)]) -> Point {
    let mut point = Point::default();
    point.set_time(Timestamp::from_micros(1_771_093_805_123_456));
    point.set_measurement(&[measurement]);
    point.set_tag("domain", domain);
    point.set_tag("entity_id", entity_id);
    for (key, value) in fields {
        point.push_field(&[key], *value);
    }
    point
}
