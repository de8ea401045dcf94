//! Bad settings as people write them: each error is at the place that is wrong and says what would be right.

use super::*;

const GOOD: &str = "\
app: chat
defaults:
  region: eu-central-1
  auth:
    mode: token
    public_keys:
      main: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo
  limits: { sends_per_10s: 5 }
stages:
  local:
    endpoint: local
    auth: { mode: open }
  prod:
    protect: true
    limits: { rooms_per_connection: 7 }
";

fn broken(from: &str, to: &str) -> SettingsError {
    let text = GOOD.replace(from, to);
    assert_ne!(text, GOOD, "`{from}` is not in the text");
    match Settings::parse(&text, "chat.yaml").and_then(|settings| settings.stage("prod")) {
        Err(error) => error,
        Ok(settings) => panic!("accepted: {settings:?}"),
    }
}

/// The token that the caret would be under.
fn pointed_at(error: &SettingsError) -> &str {
    let span = error.span.expect("a position");
    &error.text[span.offset..span.offset + span.length]
}

#[test]
fn a_stage_lies_over_the_defaults_over_what_is_built_in() {
    let settings = Settings::parse(GOOD, "chat.yaml").unwrap();
    let prod = settings.stage("prod").unwrap();
    assert_eq!(prod.region.as_str(), "eu-central-1");
    assert_eq!(prod.limits, Limits { sends_per_10s: 5, rooms_per_connection: 7 });
    assert_eq!(prod.auth.mode, AuthMode::Token);
    assert_eq!(prod.lambda.memory_mb, 256);
    assert!(prod.table.pitr && prod.table.deletion_protection, "protect protects the table");
    let local = settings.stage("local").unwrap();
    assert_eq!(local.endpoint, Endpoint::Local);
    assert_eq!(local.auth.mode, AuthMode::Open);
    assert_eq!(local.auth.public_keys.len(), 1, "a group is merged, not replaced");
    assert!(!local.table.pitr);
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    let error = broken("region:", "regoin:");
    assert_eq!(pointed_at(&error), "regoin");
    assert_eq!(error.message, "defaults: unknown setting `regoin`");
    assert!(error.help.as_deref().unwrap().starts_with("did you mean `region`?"), "{:?}", error.help);
    assert_eq!(error.to_string(), "chat.yaml:3:3: defaults: unknown setting `regoin`");
}

#[test]
fn an_unknown_key_in_a_flow_mapping_is_found_as_well() {
    let error = broken("sends_per_10s: 5", "sends_per_10: 5");
    assert_eq!(pointed_at(&error), "sends_per_10");
    assert!(error.help.unwrap().contains("did you mean `sends_per_10s`?"));
}

#[test]
fn a_setting_that_is_there_twice_is_shown_where_it_comes_again() {
    let error = broken("    endpoint: local", "    endpoint: local\n    protect: false\n    endpoint: local");
    assert_eq!(error.message, "stages.local: `endpoint` is set twice");
    let span = error.span.unwrap();
    assert_eq!(pointed_at(&error), "endpoint");
    assert!(error.text[..span.offset].ends_with("protect: false\n    "), "{span:?}");
    let error = broken("app: chat", "app: chat\napp: chat");
    assert_eq!((pointed_at(&error), error.span.unwrap().line), ("app", 2));
}

#[test]
fn an_unknown_value_names_the_allowed_ones() {
    let error = broken("mode: token", "mode: tokne");
    assert_eq!(pointed_at(&error), "tokne");
    assert_eq!(error.message, "defaults.auth.mode: unknown value `tokne`");
    assert!(error.help.unwrap().contains("did you mean `token`? Known here: `open`, `token`"));
}

#[test]
fn a_wrong_type_says_what_is_expected() {
    let error = broken("sends_per_10s: 5", "sends_per_10s: often");
    assert_eq!(pointed_at(&error), "often");
    assert_eq!(error.help.as_deref(), Some("expected a whole number from 0 to 20"));
    let error = broken("protect: true", "protect: maybe");
    assert_eq!(pointed_at(&error), "maybe");
}

#[test]
fn a_number_out_of_range_says_the_range() {
    for (bad, token) in [("21", "21"), ("-1", "-1"), ("99999999999", "99999999999")] {
        let error = broken("sends_per_10s: 5", &format!("sends_per_10s: {bad}"));
        assert_eq!(pointed_at(&error), token);
        assert_eq!(error.help.as_deref(), Some("expected a whole number from 0 to 20"));
    }
}

#[test]
fn values_are_parsed_at_the_door() {
    for (from, to, token) in [
        ("eu-central-1", "frankfurt", "frankfurt"),
        ("endpoint: local", "endpoint: locl", "locl"),
        ("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "c2hvcnQ", "c2hvcnQ"),
        ("      main:", "      \"ma in\":", "\"ma in\""),
        ("  local:", "  Local:", "Local"),
        ("protect: true", "logs: { retention_days: 10 }", "10"),
        ("protect: true", "origins: [\"https://a.example/path\"]", "\"https://a.example/path\""),
    ] {
        let error = broken(from, to);
        assert_eq!(pointed_at(&error), token, "{error}");
        assert!(error.help.is_some() || error.message.contains("is not a valid"), "{error}");
    }
}

#[test]
fn open_auth_is_refused_on_a_protected_stage_where_it_is_written() {
    let error = broken("mode: token", "mode: open");
    assert_eq!((pointed_at(&error), error.span.unwrap().line), ("open", 5));
    assert!(error.message.contains("protected"));

    let error = broken("protect: true", "protect: true\n    auth: { mode: open }");
    assert_eq!((pointed_at(&error), error.span.unwrap().line), ("open", 15));
}

#[test]
fn tokens_without_a_key_are_refused_even_if_the_mode_is_only_built_in() {
    let text = "app: chat\nstages:\n  dev:\n    protect: false\n";
    let error = Settings::parse(text, "chat.yaml").unwrap().stage("dev").unwrap_err();
    assert_eq!(pointed_at(&error), "dev");
    let error =
        Settings::parse("app: chat\nstages:\n  dev:\n", "chat.yaml").unwrap().stage("dev").unwrap_err();
    assert!(error.span.is_some());
}

#[test]
fn an_unknown_stage_names_the_known_ones() {
    let error = Settings::parse(GOOD, "chat.yaml").unwrap().stage("pord").unwrap_err();
    assert_eq!(error.message, "there is no stage `pord`");
    assert_eq!(error.help.as_deref(), Some("did you mean `prod`? The stages are: local, prod"));
    assert_eq!(pointed_at(&error), "stages");
}

#[test]
fn broken_yaml_has_a_position_too() {
    for text in [
        "app: chat\nstages: {",
        "app: [chat",
        "\tapp: chat",
        "app: chat\napp: chat\nstages: {}",
        "",
        "app: chat",
    ] {
        let error = Settings::parse(text, "chat.yaml").unwrap_err();
        assert!(error.span.is_some() || text.is_empty(), "{text:?}: {error}");
    }
}

#[test]
fn a_missing_file_says_so() {
    let error = Settings::load(Path::new("/nonexistent/chat.yaml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/chat.yaml: failed to read the settings"));
    assert!(error.help.is_some());
}

#[test]
fn the_settings_of_this_repository_are_valid() {
    let settings = Settings::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("chat.yaml")).unwrap();
    for name in settings.stage_names() {
        if let Err(error) = settings.stage(name.as_str()) {
            assert!(error.message.contains("public_keys"), "only a key of one's own may be missing: {error}");
        }
    }
    settings.stage("local").unwrap();
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused_or_accepted_but_never_a_panic(text in "\\PC{0,200}", cut in 0..GOOD.len()) {
        let _ = Settings::parse(&text, "chat.yaml");
        let _ = Settings::parse(&format!("{}{text}", &GOOD[..cut]), "chat.yaml");
    }
}

#[test]
fn a_key_with_a_star_is_every_stage_that_begins_like_it() {
    let more = "  pr-*:\n    limits: { rooms_per_connection: 3 }\n  pr-1:\n    limits: { rooms_per_connection: 4 }\n";
    let settings = Settings::parse(&format!("{GOOD}{more}"), "chat.yaml").unwrap();
    let rooms = |stage: &str| settings.stage(stage).map(|stage| stage.limits.rooms_per_connection);
    assert_eq!(rooms("pr-17"), Ok(3));
    assert_eq!(rooms("pr-1"), Ok(4), "a key of its own comes first");
    assert_eq!(settings.stage("pr-17").unwrap().stage.as_str(), "pr-17");
    assert!(settings.stage_names().all(|name| !name.as_str().contains('*')));
    assert!(rooms("pr-").unwrap_err().message.contains("there is no stage `pr-`"));
    // What the star stands for must make a name.
    for bad in ["pr-A", "pr-1/2", &format!("pr-{}", "1".repeat(30))] {
        assert!(rooms(bad).unwrap_err().message.contains("is not a valid stage name"), "{bad}");
    }
}

#[test]
fn a_star_may_only_end_a_key() {
    for bad in ["p*r", "*", "*-pr"] {
        let text = format!("{GOOD}  {bad:?}: {{}}\n");
        assert!(Settings::parse(&text, "chat.yaml").is_err(), "{bad}");
    }
}
