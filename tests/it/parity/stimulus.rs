//! What happens in the home: calls of many kinds, so that entities of many domains change as they really do.

use serde_json::{Value, json};

use crate::peers::home_assistant::HomeAssistant;

/// Each of these is known to be accepted; the entities are those of the integration `demo` and the harness' helpers.
pub fn call_services(home: &HomeAssistant) {
    for (service, entity, mut data) in calls() {
        data["entity_id"] = json!(entity);
        home.call(service, &data);
    }
}

/// As another program does it over REST. To Python each list equals the one before, and Home Assistant would keep the
/// old attributes if all of them did.
pub fn set_states(home: &HomeAssistant) {
    for (step, list) in [(1, json!([1, 0])), (2, json!([1.0, 0.0])), (3, json!([true, false]))] {
        home.set_state("sensor.equal", "1", &json!({"list": list, "step": step, "unit_of_measurement": "W"}));
    }
}

fn calls() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        // Tuples, enum members, and attributes that come and go with the colour mode.
        ("light.turn_on", "light.bed_light", json!({"brightness": 77, "hs_color": [12.5, 99.9]})),
        ("light.turn_on", "light.bed_light", json!({"color_temp_kelvin": 3210, "effect": "rainbow"})),
        ("light.turn_on", "light.ceiling_lights", json!({"xy_color": [0.3, 0.4]})),
        ("light.turn_on", "light.kitchen_lights", json!({"rgb_color": [1, 2, 3]})),
        ("light.turn_on", "light.office_rgbw_lights", json!({"rgbw_color": [1, 2, 3, 4]})),
        ("light.turn_on", "light.living_room_rgbww_lights", json!({"rgbww_color": [1, 2, 3, 4, 5]})),
        ("light.turn_on", "light.entrance_color_white_lights", json!({"white": 200})),
        ("light.turn_off", "light.bed_light", json!({})),
        ("light.toggle", "light.ceiling_lights", json!({})),
        ("switch.turn_on", "switch.ac", json!({})),
        ("switch.toggle", "switch.decorative_lights", json!({})),
        ("fan.turn_on", "fan.living_room_fan", json!({"percentage": 33})),
        ("fan.set_preset_mode", "fan.living_room_fan", json!({"preset_mode": "smart"})),
        ("fan.oscillate", "fan.living_room_fan", json!({"oscillating": true})),
        ("fan.set_direction", "fan.percentage_full_fan", json!({"direction": "reverse"})),
        ("fan.turn_off", "fan.living_room_fan", json!({})),
        ("climate.set_temperature", "climate.heatpump", json!({"temperature": 23.5})),
        (
            "climate.set_temperature",
            "climate.ecobee",
            json!({"target_temp_low": 18, "target_temp_high": 24.5, "hvac_mode": "heat_cool"}),
        ),
        ("climate.set_hvac_mode", "climate.hvac", json!({"hvac_mode": "off"})),
        ("climate.set_fan_mode", "climate.hvac", json!({"fan_mode": "auto_low"})),
        ("climate.set_preset_mode", "climate.ecobee", json!({"preset_mode": "eco"})),
        ("climate.set_humidity", "climate.hvac", json!({"humidity": 55})),
        ("humidifier.set_humidity", "humidifier.humidifier", json!({"humidity": 41})),
        ("humidifier.set_mode", "humidifier.hygrostat", json!({"mode": "eco"})),
        ("humidifier.turn_off", "humidifier.dehumidifier", json!({})),
        ("water_heater.set_temperature", "water_heater.demo_water_heater", json!({"temperature": 50})),
        ("water_heater.set_operation_mode", "water_heater.demo_water_heater", json!({"operation_mode": "gas"})),
        ("water_heater.set_away_mode", "water_heater.demo_water_heater_celsius", json!({"away_mode": true})),
        // These move for a while: a change each second.
        ("cover.open_cover", "cover.kitchen_window", json!({})),
        ("cover.set_cover_position", "cover.hall_window", json!({"position": 40})),
        ("cover.set_cover_tilt_position", "cover.living_room_window", json!({"tilt_position": 10})),
        ("cover.open_cover", "cover.garage_door", json!({})),
        ("valve.open_valve", "valve.orchard", json!({})),
        ("lock.unlock", "lock.front_door", json!({})),
        ("lock.lock", "lock.kitchen_door", json!({})),
        ("lock.lock", "lock.poorly_installed_door", json!({})),
        ("lock.open", "lock.openable_lock", json!({})),
        ("alarm_control_panel.alarm_arm_away", "alarm_control_panel.security", json!({"code": "1234"})),
        ("alarm_control_panel.alarm_disarm", "alarm_control_panel.security", json!({"code": "1234"})),
        ("vacuum.start", "vacuum.0_ground_floor", json!({})),
        ("vacuum.set_fan_speed", "vacuum.0_ground_floor", json!({"fan_speed": "max"})),
        ("vacuum.pause", "vacuum.1_first_floor", json!({})),
        ("vacuum.return_to_base", "vacuum.0_ground_floor", json!({})),
        // Datetimes and group members.
        ("media_player.media_pause", "media_player.living_room", json!({})),
        ("media_player.volume_set", "media_player.bedroom", json!({"volume_level": 0.37})),
        ("media_player.media_next_track", "media_player.walkman", json!({})),
        ("media_player.media_play", "media_player.living_room", json!({})),
        ("media_player.select_source", "media_player.lounge_room", json!({"source": "youtube"})),
        ("media_player.join", "media_player.walkman", json!({"group_members": ["media_player.kitchen"]})),
        ("media_player.turn_off", "media_player.living_room", json!({})),
        ("siren.turn_on", "siren.siren_with_all_features", json!({"tone": "alarm", "volume_level": 0.5})),
        ("siren.turn_off", "siren.siren", json!({})),
        ("number.set_value", "number.pwm_1", json!({"value": 0.07})),
        ("number.set_value", "number.temperature_setting", json!({"value": 25})),
        ("select.select_option", "select.speed", json!({"option": "light_speed"})),
        ("button.press", "button.push", json!({})),
        ("update.install", "update.demo_update_with_progress", json!({})),
        ("update.skip", "update.demo_living_room_bulb_update", json!({})),
        ("date.set_value", "date.date", json!({"date": "2026-02-14"})),
        ("time.set_value", "time.time", json!({"time": "06:07:08"})),
        ("datetime.set_value", "datetime.date_and_time", json!({"datetime": "2026-02-14T18:30:05+01:00"})),
        ("text.set_value", "text.text", json!({"value": r#"a "quoted", b=c \ d\\ 'e' ü☃🎵"#})),
        ("text.set_value", "text.password", json!({"value": "12.5"})),
        ("text.set_value", "text.text_with_1_to_5_characters", json!({"value": " 42 "})),
        // The template sensors follow the helpers.
        ("input_number.set_value", "input_number.level", json!({"value": 0.125})),
        ("input_number.set_value", "input_number.level", json!({"value": 123_456.789})),
        ("input_number.set_value", "input_number.level", json!({"value": -0.001})),
        ("input_boolean.turn_on", "input_boolean.flag", json!({})),
        ("input_boolean.toggle", "input_boolean.flag", json!({})),
        ("input_button.press", "input_button.knob", json!({})),
        ("input_datetime.set_datetime", "input_datetime.moment", json!({"datetime": "2026-02-14 18:30:05"})),
        ("input_select.select_option", "input_select.mood", json!({"option": "it's 5, or = 6"})),
        ("input_select.select_option", "input_select.mood", json!({"option": "a \"quoted\" one"})),
        ("input_text.set_value", "input_text.note", json!({"value": r#"back\slash, "quote", eq=ual, space\ "#})),
        ("input_text.set_value", "input_text.note", json!({"value": "1e3"})),
        ("input_text.set_value", "input_text.note", json!({"value": "ends with a backslash \\"})),
        ("input_text.set_value", "input_text.note", json!({"value": ""})),
        ("counter.increment", "counter.visits", json!({})),
        ("timer.start", "timer.tea", json!({"duration": "00:00:07"})),
        ("timer.cancel", "timer.tea", json!({})),
    ]
}
