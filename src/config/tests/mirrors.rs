//! Targets beside the first.

use serde_json::json;

use super::super::settings::{Api, Target};
use super::{Made, SUPERVISOR, places, refused, settings};

#[test]
fn a_mirror_has_the_options_and_the_defaults_of_the_first_target() {
    let typed = json!({
        "influxdb": {"url": "http://db", "database": "home", "username": "me", "password": "p"},
        "mirrors": [
            {"url": "http://you:q@second:8086/x", "verify_tls": false},
            {"url": "file:///share/copy"},
            {"url": "https://third", "api": "v2", "organization": "o", "bucket": "b", "token": "t"},
        ]
    });
    let settings = settings(&typed);
    assert_eq!(
        places(&settings),
        [
            ("influxdb", "http://db/".to_owned()),
            ("mirror_1", "http://second:8086/x".to_owned()),
            ("mirror_2", "/share/copy".to_owned()),
            ("mirror_3", "https://third/".to_owned()),
        ]
    );
    let Target::Server(second) = &settings.targets[1].place else { panic!("a server was given") };
    assert_eq!((second.username.as_deref(), second.password.expose()), (Some("you"), "q"));
    assert_eq!((second.database.as_str(), second.api, second.tls.verify), ("home_assistant", Api::Auto, false));
    let Target::Server(third) = &settings.targets[3].place else { panic!("a server was given") };
    assert_eq!((third.bucket.as_str(), third.token.expose()), ("b", "t"));
}

#[test]
fn a_target_is_known_by_its_place_and_not_by_its_number_or_its_login() {
    let identities = |typed| -> Vec<String> {
        let typed = json!({"influxdb": {"url": "http://db", "database": "home"}, "mirrors": typed});
        settings(&typed).targets[1..].iter().map(|target| target.place.identity()).collect()
    };
    let (a, b) =
        (json!({"url": "http://you:hush@a/x/"}), json!({"url": "https://b", "username": "me", "password": "q"}));
    let both = identities(json!([a, b]));
    let shown = [r#"http://a:80/x ["home_assistant", "", ""]"#, r#"https://b:443 ["home_assistant", "", ""]"#];
    assert_eq!(both, shown, "no secrets");
    assert_eq!(identities(json!([b])), shown[1..]);
    assert_eq!(identities(json!([{"url": "http://he:psst@a:80/x"}])), shown[..1]);
    assert_eq!(identities(json!([{"url": "file:///share/copy"}])), ["file:///share/copy"]);
}

#[test]
fn a_mirror_keeps_its_name_when_nobody_said_where_the_first_target_is() {
    let alone = settings(&json!({"mirrors": [{"url": "http://m"}]}));
    assert_eq!(places(&alone), [("mirror_1", "http://m/".to_owned())]);
}

#[test]
fn faults_of_a_mirror_count_it_from_one() {
    for (mirrors, expected) in [
        (json!({}), &["mirrors: must be a list, not a group of options in braces"][..]),
        (json!("http://m"), &["mirrors: must be a list, not text"]),
        (json!([{}]), &["mirrors.1.url: is empty: a mirror needs an address"]),
        (json!([{"url": " "}]), &["mirrors.1.url: is empty: a mirror needs an address"]),
        (json!([{"url": 5}]), &["mirrors.1.url: must be text, not a whole number"]),
        (
            json!(["http://m", {"url": "m:1"}, null]),
            &[
                "mirrors.1: must be a group of options in braces, not text",
                "mirrors.3: must be a group of options in braces, not nothing (null)",
                "mirrors.2.url: must begin with one of http://, https://",
            ],
        ),
        (
            json!([{"url": "http://m", "databse": "x"}, {"url": "http://n", "mirrors": []}]),
            &[
                "unknown option `mirrors.1.databse`: did you mean `database`?",
                "unknown option `mirrors.2.mirrors`: it can be api, bucket, ca_certificate, database, organization, \
                 password, retention_policy, token, url, username, verify_tls",
            ],
        ),
        (
            json!([{"url": "http://m", "api": "v5"}, {"url": "http://n", "api": "influx"}]),
            &[
                "mirrors.1.api: `v5` is no choice: it can be auto, v1, v2, v3",
                "mirrors.2.api: `influx` is no choice: it can be auto, v1, v2, v3",
            ],
        ),
        (
            json!([{"url": "http://m", "api": "v2", "bucket": "b"}, {"url": "http://n", "database": "", "username": "u"}]),
            &[
                "mirrors.1.organization: is empty, but mirrors.1.api v2 needs it",
                "mirrors.1.token: is empty, but mirrors.1.api v2 needs it",
                "mirrors.2.password: is empty, but mirrors.2.username is set: give both or neither",
                "mirrors.2.database: is empty: only mirrors.2.api v2 goes without it",
            ],
        ),
        (
            json!([
                {"url": "file:x"},
                {"url": "http://me:p@n", "username": "you", "password": "q", "ca_certificate": "x.pem"},
                {"url": "http://%ff@n", "token": "a b"},
            ]),
            &[
                "mirrors.1.url: must have three slashes after `file:`, like file:///share/influxdb",
                "mirrors.2.url: holds a login, and so does mirrors.2.username: remove it from the URL",
                "mirrors.2.ca_certificate: cannot read /ssl/x.pem: entity not found",
                "mirrors.3.url: holds a login that is not UTF-8: use mirrors.3.username and mirrors.3.password",
                "mirrors.3.token: has a space, a line break or another letter that no token has: copy it again",
            ],
        ),
    ] {
        refused(&json!({ "mirrors": mirrors }), expected);
    }
}

#[test]
fn a_wrong_choice_of_a_mirror_spares_the_rest_of_it() {
    refused(
        &json!({"mirrors": [{"url": "http://m", "database": "x"}, {"url": "http://m", "database": "x", "api": "v4"}]}),
        &[
            "mirrors.2.api: `v4` is no choice: it can be auto, v1, v2, v3",
            "mirrors.2.url: leads to the same place as mirrors.1: give another address, database or bucket, or remove \
             one of them",
        ],
    );
}

#[test]
fn no_two_targets_are_one_place() {
    let v2 = |organization, bucket| json!({"url": "http://db", "api": "v2", "token": "t", "organization": organization, "bucket": bucket});
    let of = |url, database| json!({"url": url, "database": database});
    for (one, other, is_one) in [
        (of("http://db:8086", "x"), of("http://db:8086", "x"), true),
        (of("http://db:8086", "x"), of("http://DB:8086/", "x"), true),
        (of("http://db/p", "x"), of("http://me:pw@db:80/p/", "x"), true),
        (of("http://db:8086", "x"), json!({"url": "http://db:8086", "database": "x", "api": "v3"}), true),
        (of("http://db:8086", "x"), of("http://db:8087", "x"), false),
        (of("http://db:8086", "x"), of("http://db:8086", "y"), false),
        (of("http://db/p", "x"), of("http://db/q", "x"), false),
        (of("http://db", "x"), of("https://db", "x"), false),
        (of("http://db", "x"), json!({"url": "http://db", "database": "x", "retention_policy": "long"}), false),
        (v2("o", "b"), v2("o", "b"), true),
        (v2("o", "b"), v2("o", "c"), false),
        (v2("o", "b"), v2("p", "b"), false),
        (of("file:///share/a", ""), of("file:///share/b/../a/", ""), true),
        (of("file:///share/a", ""), of("file:///share/b", ""), false),
    ] {
        let far = json!({"url": "http://far"});
        let fourth = json!({"url": "http://fourth"});
        for (options, first, second) in [
            (json!({"influxdb": one, "mirrors": [other]}), "influxdb", "mirrors.1"),
            (json!({"influxdb": far, "mirrors": [one, fourth, other]}), "mirrors.1", "mirrors.3"),
        ] {
            let text = options.to_string();
            let loaded = Made { options: Some(&text), ..Made::default() }.load();
            let faults = loaded.map_or_else(|invalid| invalid.faults().to_vec(), |_| Vec::new());
            let expected = format!(
                "{second}.url: leads to the same place as {first}: give another address, database or bucket, or remove \
                 one of them"
            );
            assert_eq!(faults, if is_one { vec![expected] } else { Vec::new() }, "{options}");
        }
    }
}

#[test]
fn the_add_on_that_is_found_by_itself_is_no_mirror_of_itself() {
    let text = json!({"mirrors": [{"url": "http://a0d7b954-influxdb:8086"}]}).to_string();
    let made = Made { options: Some(&text), environment: &[SUPERVISOR], ..Made::default() };
    assert_eq!(made.faults().len(), 1);
    // A mirror does not fall back to it.
    let made = Made { options: Some(r#"{"mirrors": [{}]}"#), ..made };
    assert_eq!(made.faults(), ["mirrors.1.url: is empty: a mirror needs an address"]);
}

#[test]
fn a_variable_holds_all_mirrors_in_json() {
    const NAME: &str = "HA_INGESTOR__MIRRORS";
    let file = json!({"mirrors": [{"url": "http://file"}, {"url": "http://second"}]}).to_string();
    let list = r#"[{"url": "http://variable", "token": "t"}]"#;
    let secrets = [("/run/secrets/mirrors", &*format!("{list}\n"))];
    for (name, value, expected) in [
        (NAME, list, &[("mirror_1", "http://variable/".to_owned())][..]),
        ("HA_INGESTOR__MIRRORS_FILE", "/run/secrets/mirrors", &[("mirror_1", "http://variable/".to_owned())]),
        (NAME, "[]", &[]),
        (NAME, "", &[]),
    ] {
        let environment = [(name, value)];
        let made = Made { options: Some(&file), files: &secrets, environment: &environment, ..Made::default() };
        assert_eq!(places(&made.load().unwrap()), expected, "{name}={value}");
    }
    let no_list = r#"HA_INGESTOR__MIRRORS: must be a list in JSON, such as [{"url": "http://192.168.1.6:8086"}]"#;
    for (value, expected) in [
        ("http://a,http://b", no_list),
        (r#"{"url": "http://a"}"#, no_list),
        (r#"[{"url": "http://a"}"#, no_list),
        (r#"[{"url": ""}]"#, "mirrors.1.url (from HA_INGESTOR__MIRRORS): is empty: a mirror needs an address"),
        (r#"["a"]"#, "mirrors.1 (from HA_INGESTOR__MIRRORS): must be a group of options in braces, not text"),
        (
            r#"[{"url": "http://a", "ulr": ""}]"#,
            "unknown option `mirrors.1.ulr` (from HA_INGESTOR__MIRRORS): did you mean `url`?",
        ),
        (
            r#"[{"url": "http://a"}, {"url": "http://b", "api": "v4"}]"#,
            "mirrors.2.api (from HA_INGESTOR__MIRRORS): `v4` is no choice: it can be auto, v1, v2, v3",
        ),
    ] {
        assert_eq!(Made { environment: &[(NAME, value)], ..Made::default() }.faults(), [expected], "{value}");
    }
    let slip = [("HA_INGESTOR_MIRRORS", "[]")];
    assert_eq!(
        Made { environment: &slip, ..Made::default() }.faults(),
        ["unknown variable HA_INGESTOR_MIRRORS: did you mean HA_INGESTOR__MIRRORS?"]
    );
}

/// Everything that can hold a secret holds one, and as much as possible is wrong with it.
#[test]
fn no_fault_of_a_mirror_shows_a_secret() {
    const SECRET: &str = "hunter2";
    let spoiled = [
        json!(SECRET),
        json!(format!("{SECRET} \n")),
        json!([SECRET]),
        json!(format!("http://{SECRET}:{SECRET}@h?{SECRET}#{SECRET}")),
        json!(format!("http://me:{SECRET}@h")),
    ];
    let mut faults_seen = 0;
    for value in &spoiled {
        for key in ["token", "password", "url"] {
            for api in ["auto", "v2"] {
                let mut mirror = json!({"url": "http://m", "api": api, "username": "u", "password": SECRET});
                mirror[key] = value.clone();
                for mirrors in
                    [json!([mirror]), json!([mirror, mirror]), json!([[mirror]]), json!([value]), value.clone()]
                {
                    let options = json!({ "mirrors": mirrors }).to_string();
                    let list = mirrors.to_string();
                    let whole = [("HA_INGESTOR__MIRRORS", list.as_str())];
                    let cut = [("HA_INGESTOR__MIRRORS", &list[..list.len() - 1])];
                    for made in [
                        Made { options: Some(&options), ..Made::default() },
                        Made { environment: &whole, ..Made::default() },
                        Made { environment: &cut, ..Made::default() },
                    ] {
                        let shown = match made.load() {
                            Ok(settings) => format!("{settings:?}"),
                            Err(invalid) => {
                                faults_seen += 1;
                                format!("{invalid}\n{invalid:?}")
                            }
                        };
                        assert!(!shown.contains(SECRET), "{mirrors}: {shown}");
                    }
                }
            }
        }
    }
    assert!(faults_seen > 100, "{faults_seen} faults are not enough to say anything");
}
