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
        "chat",
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

#[test]
fn every_verb_has_a_completion_and_a_man_page() {
    let project = Project::new();
    let script = project.run(&["completions", "bash"]).stdout().to_owned();
    let directory = project.root().join("man");
    let wrote = project.run(&["man", &directory.display().to_string(), "--json"]);
    assert_eq!(wrote.code(), 0, "{}", wrote.stdout());
    let result = wrote.json();
    let pages: Vec<&str> =
        result["data"]["pages"].as_array().unwrap().iter().filter_map(|p| p.as_str()).collect();
    // From the help, which is what people see.
    let help = project.run(&["--help"]).stdout().to_owned();
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs {
        assert!(
            script.contains(&format!("chatctl__{verb}")) || script.contains(&format!(",{verb})")),
            "{verb}"
        );
        assert!(pages.contains(&format!("chatctl-{verb}.1").as_str()), "{verb}: {pages:?}");
    }
    assert!(pages.contains(&"chatctl.1") && pages.contains(&"chatctl-ci-setup.1"), "{pages:?}");
    let page = std::fs::read_to_string(directory.join("chatctl-deploy.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("no\\-preflight"), "{page}");
    assert!(project.run(&["man"]).stdout().contains(".TH chatctl"));
}

#[test]
fn the_policy_names_the_stage_and_needs_nobody_to_ask() {
    let project = Project::with_settings("app: chat\nstages:\n  dev:\n  pr-*:\n");
    for (stage, name) in
        [("dev", "role/chatctl/chat/dev/chat-dev-*"), ("pr-*", "role/chatctl/chat/pr-*/chat-pr-*-*")]
    {
        let run = project.run(&["policy", "--stage", stage, "--account", "123456789012"]);
        assert_eq!(run.code(), 0, "{}", run.stderr());
        let policy: serde_json::Value = serde_json::from_str(run.stdout()).unwrap();
        assert!(policy.to_string().contains(&format!("arn:aws:iam::123456789012:{name}")), "{policy}");
    }
    // No key was made for it.
    assert!(!project.state("keys").exists());
}

#[test]
fn a_runner_gets_no_key_of_its_own() {
    let project = Project::with_settings("app: chat\nstages:\n  dev:\n");
    let run = Ran(project.command(&["plan", "--stage", "dev", "--json"]).env("CI", "true").output().unwrap());
    assert_eq!(run.code(), 3);
    let result = run.json();
    assert_eq!(result["error"]["code"], "key_needed", "{result}");
    assert!(!project.state("keys").exists());
}

#[test]
fn the_doctor_names_what_is_wrong_and_how_to_mend_it() {
    let project = Project::new();
    let well = project.run(&["doctor", "--json"]);
    let lines: Vec<serde_json::Value> =
        well.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdict = |lines: &[serde_json::Value], check: &str| {
        let found = lines
            .iter()
            .find(|line| line["check"] == check)
            .unwrap_or_else(|| panic!("no {check} in {lines:?}"));
        (found["verdict"].as_str().unwrap().to_owned(), found["mend"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(well.code(), 0, "{lines:?}");
    well.json();
    assert_eq!(verdict(&lines, "rust").0, "ok");
    assert_eq!(verdict(&lines, "handlers").0, "ok");
    assert_eq!(
        verdict(&lines, "account").0,
        "skipped",
        "the cloud does not run, and is not started to be looked at"
    );

    // Neither cargo nor anything else is to be found.
    let empty = project.root().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let ill =
        project.command(&["doctor", "--json"]).env("PATH", &empty).env_remove("CARGO").output().unwrap();
    let ill = Ran(ill);
    assert_eq!(ill.code(), 1);
    assert_eq!(ill.json()["error"]["code"], "unhealthy");
    let lines: Vec<serde_json::Value> =
        ill.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for check in ["rust", "c compiler"] {
        let (verdict, mend) = verdict(&lines, check);
        assert_eq!(verdict, "failed", "{check}");
        assert!(mend.contains("install"), "{check}: {mend}");
    }
}

#[test]
fn the_doctor_sees_a_cloud_that_runs() {
    let project = Project::new();
    project.run(&["local", "up", "--detach", "--port", "0"]);
    let run = project.run(&["doctor"]);
    assert_eq!(run.code(), 0, "{}{}", run.stdout(), run.stderr());
    for line in
        ["it agrees with the other side", "in account 000000000000", "Lambda environments are unreserved"]
    {
        assert!(run.stdout().contains(line), "{line} is not in {}", run.stdout());
    }
}
