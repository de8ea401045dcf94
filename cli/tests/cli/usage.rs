//! What the command line says about itself and about mistakes: help, settings errors, exit codes, the JSON shape.

use crate::support::{Project, Ran, chatctl};

#[test]
fn help_is_as_documented() {
    let project = Project::new();
    for verb in [
        "",
        "dev",
        "plan",
        "deploy",
        "status",
        "outputs",
        "logs",
        "destroy",
        "token",
        "local",
        "local up",
        "policy",
        "build",
        "doctor",
        "man",
        "completions",
    ] {
        let mut args: Vec<&str> = verb.split_whitespace().collect();
        args.push("--help");
        let help = project.run(&args);
        assert_eq!(help.code(), 0);
        insta::assert_snapshot!(format!("help {verb}").trim().replace(' ', "-"), help.stdout());
    }
}

#[test]
fn without_arguments_it_shows_help() {
    let project = Project::new();
    let run = project.run(&[]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("Usage: chatctl"), "{}", run.stderr());
    assert!(project.run(&["--version"]).stdout().starts_with("chatctl "));
}

#[test]
fn wrong_arguments_exit_with_2() {
    let project = Project::new();
    for args in [
        &["deplyo"][..],
        &["deploy", "--nonsense"],
        &["logs", "nobody"],
        &["logs", "--since", "yesterday"],
        &["local", "up", "--port", "99999"],
        &["token"],
        &["token", "--user", "a#b"],
        &["token", "--user", "alice", "--ttl", "soon"],
        &["token", "--user", "alice", "--room", "a/b"],
        &["policy", "--account", "123"],
    ] {
        assert_eq!(project.run(args).code(), 2, "{args:?}");
        let json = project.run(&[args, &["--json"]].concat());
        assert_eq!(json.code(), 2, "{args:?}");
        json.json();
    }
}

#[test]
fn outside_of_a_project_it_says_where_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let run = Ran(chatctl(dir.path(), &["plan"]).output().unwrap());
    assert_eq!(run.code(), 3);
    assert!(run.stderr().contains("found no stacks/chat.yaml"), "{}", run.stderr());
    assert!(run.stderr().contains("--settings"), "{}", run.stderr());
}

#[test]
fn settings_errors_point_at_the_place() {
    let cases = [
        ("misspelt-key", "app: chat\nstages:\n  local:\n    endpoint: local\n    auht: { mode: open }\n"),
        ("wrong-type", "app: chat\nstages:\n  local:\n    endpoint: local\n    protect: maybe\n"),
        ("unknown-value", "app: chat\nstages:\n  local:\n    endpoint: local\n    auth:\n      mode: opne\n"),
        ("unknown-stage", "app: chat\nstages:\n  lokal:\n    endpoint: local\n    auth: { mode: open }\n"),
        ("broken-yaml", "app: chat\nstages: { local: [\n"),
    ];
    for (name, text) in cases {
        let project = Project::with_settings(text);
        let run = project.run(&["plan"]);
        assert_eq!(run.code(), 3, "{name}: {}", run.stderr());
        insta::assert_snapshot!(format!("settings-{name}"), run.stderr());

        let json = project.run(&["plan", "--json"]);
        assert_eq!(json.code(), 3);
        let result = json.json();
        assert_eq!(result["error"]["code"], "settings_invalid");
        assert_eq!(result["error"]["location"]["file"], "stacks/chat.yaml", "{result}");
        assert!(result["error"]["location"]["line"].is_u64(), "{result}");
    }
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let project = Project::with_settings("app: chat\nstages: {}\n");
    let plain = project.run(&["plan"]);
    assert!(!plain.stderr().contains('\u{1b}'));
    let forced = Ran(project.command(&["plan"]).env("CLICOLOR_FORCE", "1").output().unwrap());
    assert!(forced.stderr().contains('\u{1b}'), "{}", forced.stderr());
    for (args, no_color) in [(&["plan", "--no-color"][..], ""), (&["plan"], "1")] {
        let run =
            Ran(project.command(args).env("CLICOLOR_FORCE", "1").env("NO_COLOR", no_color).output().unwrap());
        assert!(!run.stderr().contains('\u{1b}'), "{}", run.stderr());
    }
}

#[test]
fn completions_are_scripts() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = project.run(&["completions", shell]);
        assert_eq!(run.code(), 0);
        assert!(run.stdout().contains("chatctl"), "{shell}");
    }
}
