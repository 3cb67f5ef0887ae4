//! Defaults, precedence, and that every wrong setting is named at once without its secret.

use std::collections::HashMap;

use secrecy::ExposeSecret;

use super::*;

const EVERYTHING: Needs = Needs { database: true, nats: true, master_key: true };

fn load(profile: Profile, needs: Needs, given: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let given: HashMap<String, String> = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Settings::load(profile, needs, |name| given.get(name).cloned())
}

fn wrong(given: &[(&str, &str)]) -> Vec<Problem> {
    load(Profile::Dev, Needs::default(), given).unwrap_err().0
}

#[test]
fn dev_needs_nothing() {
    let settings = load(Profile::Dev, EVERYTHING, &[]).unwrap();
    assert_eq!(settings.port_candidates()[..2], [8080, 8081]);
    assert_eq!(settings.egress_allow, [EgressRule::Loopback]);
    assert_eq!(settings.roles, Role::ALL);
    assert_eq!(settings.spec_max_bytes, 33_554_432);
    assert!(settings.openai.is_none() && settings.master_key.is_none());
}

#[test]
fn a_server_says_everything_that_is_missing_at_once() {
    let problems = load(Profile::Server, EVERYTHING, &[("APIQ_NATS_URL", "  ")]).unwrap_err().0;
    let names: Vec<_> = problems.iter().map(|problem| problem.setting).collect();
    assert_eq!(names, ["APIQ_DATABASE_URL", "APIQ_NATS_URL", "APIQ_MASTER_KEY"]);
    let only_database = Needs { database: true, ..Needs::default() };
    assert_eq!(load(Profile::Server, only_database, &[]).unwrap_err().0.len(), 1);
}

#[test]
fn a_wrong_setting_is_not_called_missing_too() {
    let given = [("APIQ_DATABASE_URL", "mysql://x"), ("APIQ_NATS_URL", "127.0.0.1"), ("APIQ_MASTER_KEY", "c2hvcnQ=")];
    let problems = load(Profile::Server, EVERYTHING, &given).unwrap_err().0;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].sentence.contains("5 bytes"), "{problems:?}");
}

#[test]
fn every_wrong_setting_is_named_with_a_sentence() {
    let given = [
        ("APIQ_HOST", "example.com"),
        ("APIQ_PORT", "70000"),
        ("APIQ_DATABASE_URL", "redis://u:hunter2@h/0"),
        ("APIQ_NATS_URL", "http://u:hunter2@h"),
        ("APIQ_MASTER_KEY", "hunter2!"),
        ("APIQ_MASTER_KEY_PREVIOUS_FILE", "/nowhere/hunter"),
        ("APIQ_SECRET_RETENTION_DAYS", "-1"),
        ("OPENAI_BASE_URL", "ftp://x"),
        ("APIQ_EGRESS_ALLOW", "10.0.0.1/8,loopback,x"),
        ("APIQ_LOG", "a=b=c"),
        ("APIQ_LOG_FORMAT", "xml"),
        ("APIQ_METRICS_LISTEN", "9464"),
        ("APIQ_SPEC_MAX_BYTES", "0"),
        ("APIQ_SPEC_TIMEOUT_SECONDS", "0"),
        ("APIQ_SPEC_CACHE_TTL_HOURS", "-1"),
        ("APIQ_SPEC_CACHE_MAX_BYTES", "1 GB"),
        ("APIQ_SPEC_CACHE_MAX_COUNT", "many"),
        ("APIQ_SPEC_MAX_DEPTH", "100000"),
        ("APIQ_SPEC_MAX_SECONDS", "0"),
        ("APIQ_ROLES", "api,cook,waiter"),
    ];
    let problems = wrong(&given);
    let names: Vec<_> = problems.iter().map(|problem| problem.setting).collect();
    assert_eq!(names, given.map(|(name, _)| name));
    let text = SettingsError(problems).to_string();
    assert!(text.starts_with("20 settings are wrong:\n"), "{text}");
    assert!(text.contains("cook") && text.contains("waiter"), "each item of a list is named: {text}");
    assert!(!text.contains("hunter2"), "a secret was printed: {text}");
}

#[test]
fn debug_output_holds_no_secret() {
    let given = [
        ("APIQ_DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("APIQ_NATS_URL", "nats://u:hunter2@h"),
        ("OPENAI_API_KEY", "hunter2"),
    ];
    let settings = load(Profile::Server, Needs::default(), &given).unwrap();
    assert_eq!(settings.database_url.as_ref().unwrap().expose_secret(), "postgres://u:hunter2@h/d");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_model_is_on_with_a_key_or_with_an_endpoint() {
    let by_key = load(Profile::Dev, Needs::default(), &[("OPENAI_API_KEY", "k")]).unwrap().openai.unwrap();
    assert_eq!(by_key.base_url, "https://api.openai.com/v1");
    let local = load(Profile::Dev, Needs::default(), &[("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/")]);
    let local = local.unwrap().openai.unwrap();
    assert!(local.api_key.is_none());
    assert_eq!(local.base_url, "http://127.0.0.1:11434/v1");
    assert_eq!(wrong(&[("OPENAI_BASE_URL", "https://me:key@host/v1")]).len(), 1);
}

#[test]
fn egress_rules() {
    let rules = |text| load(Profile::Server, Needs::default(), &[("APIQ_EGRESS_ALLOW", text)]).unwrap().egress_allow;
    assert_eq!(rules("none"), []);
    let texts: Vec<String> =
        rules("loopback, 10.0.0.0/8,fd00::/8,0.0.0.0/0,192.168.1.7").iter().map(|r| r.to_string()).collect();
    assert_eq!(texts, ["loopback", "10.0.0.0/8", "fd00::/8", "0.0.0.0/0", "192.168.1.7/32"]);
    assert_eq!(EgressRule::Loopback.cidrs(), ["127.0.0.0/8", "::1/128"]);
    for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0/8", "localhost", "fd00::1/8"] {
        assert_eq!(wrong(&[("APIQ_EGRESS_ALLOW", bad)]).len(), 1, "{bad}");
    }
}

#[test]
fn the_dev_profile_may_forbid_loopback() {
    let settings = load(Profile::Dev, Needs::default(), &[("APIQ_EGRESS_ALLOW", "none")]).unwrap();
    assert_eq!(settings.egress_allow, []);
}

#[test]
fn a_given_port_is_the_only_candidate() {
    let settings = load(Profile::Dev, Needs::default(), &[("APIQ_PORT", "9000")]).unwrap();
    assert_eq!(settings.port_candidates(), [9000]);
    let server = load(Profile::Server, Needs::default(), &[]).unwrap();
    assert_eq!(server.port_candidates(), [8080]);
}

#[tokio::test]
async fn a_taken_port_is_refused_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let settings = load(Profile::Dev, Needs::default(), &[("APIQ_PORT", &port)]).unwrap();
    let error = settings.bind().await.unwrap_err().to_string();
    assert!(error.contains(&port) && error.contains("APIQ_PORT"), "{error}");
    let any = load(Profile::Dev, Needs::default(), &[("APIQ_PORT", "0")]).unwrap();
    assert_ne!(any.bind().await.unwrap().local_addr().unwrap().port(), 0);
}

#[test]
fn help_and_the_example_file_name_every_setting() {
    let example = include_str!("../../.env.example");
    let help = help();
    for setting in SETTINGS {
        assert!(help.contains(setting.name), "{}", setting.name);
        let line = format!("#{}=", setting.name);
        assert!(example.lines().any(|l| l.starts_with(&line)), ".env.example lacks {line}");
    }
    let named: Vec<_> = example.lines().filter_map(|l| l.strip_prefix('#')?.split_once('=')).collect();
    for (name, _) in named.iter().filter(|(name, _)| !name.contains(' ')) {
        assert!(SETTINGS.iter().any(|setting| setting.name == *name), ".env.example names the unknown {name}");
    }
    assert!(help.lines().all(|line| line.len() <= 100), "a help line is too long");
}

#[test]
fn everything_that_is_read_is_documented() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let settings = Settings::load(Profile::Dev, Needs::default(), |name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    assert!(settings.is_ok());
    let documented = SETTINGS.iter().map(|setting| setting.name.to_owned()).collect();
    assert_eq!(asked.into_inner(), documented);
}
