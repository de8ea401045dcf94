//! The local cloud through the real binary: started, found, stopped, killed, and everything that may be in its way.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Project;

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn is_alive(pid: u32) -> bool {
    // A zombie that nobody has waited for yet counts as gone.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cloud_starts_in_the_background_is_found_and_stops() {
    let project = Project::new();

    let up = project.run(&["local", "up", "--detach", "--port", "0", "--json"]);
    let result = up.json();
    assert_eq!(up.code(), 0);
    assert_eq!(result["data"]["state"], "started");
    let pid = project.cloud_pid();
    assert!(is_alive(pid));

    let again = project.run(&["local", "up", "--detach", "--port", "0", "--json"]).json();
    assert_eq!(again["data"]["state"], "was_running");
    assert_eq!(again["data"]["pid"], pid);

    let status = project.run(&["local", "status", "--json"]).json();
    assert_eq!(status["data"]["running"], true);
    assert_eq!(status["data"]["endpoint"], result["data"]["endpoint"]);

    let down = project.run(&["local", "down", "--json"]).json();
    assert_eq!(down["data"]["state"], "stopped");
    assert!(!is_alive(pid));
    assert!(!project.state("local.json").exists());
    assert_eq!(project.run(&["local", "down", "--json"]).json()["data"]["state"], "was_not_running");
}

#[test]
fn a_cloud_in_the_foreground_ends_with_an_interrupt_and_leaves_nothing() {
    let project = Project::new();
    let child = project
        .command(&["local", "up", "--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("no record", || project.state("local.json").exists());

    kill(child.id(), "-INT");
    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!project.state("local.json").exists());
}

#[test]
fn a_killed_cloud_is_noticed_and_replaced() {
    let project = Project::new();
    project.run(&["local", "up", "--detach", "--port", "0"]);
    let first = project.cloud_pid();
    kill(first, "-KILL");
    wait_until("not killed", || !is_alive(first));

    let status = project.run(&["local", "status", "--json"]).json();
    assert_eq!(status["data"]["state"], "was_killed");

    let up = project.run(&["local", "up", "--detach", "--port", "0", "--json"]).json();
    assert_eq!(up["data"]["state"], "started");
    assert_ne!(project.cloud_pid(), first);
}

#[test]
fn a_stale_record_of_a_living_stranger_is_not_believed() {
    let project = Project::new();
    std::fs::create_dir(project.state("")).unwrap();
    // The pid was given to another process since, and another project's cloud may even answer at the port.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let record =
        format!(r#"{{"pid":{},"port":{port},"started":"2026-01-01T00:00:00Z"}}"#, std::process::id());
    std::fs::write(project.state("local.json"), record).unwrap();

    let status = project.run(&["local", "status", "--json"]).json();
    assert_eq!(status["data"]["state"], "was_killed");
    let down = project.run(&["local", "down", "--json"]).json();
    assert_eq!(down["data"]["state"], "was_killed");
    assert!(!project.state("local.json").exists());
}

#[test]
fn two_projects_have_two_clouds() {
    let (one, two) = (Project::new(), Project::new());
    one.run(&["local", "up", "--detach", "--port", "0"]);
    assert_eq!(two.run(&["local", "status", "--json"]).json()["data"]["running"], false);
    two.run(&["local", "up", "--detach", "--port", "0"]);
    assert_ne!(one.cloud_pid(), two.cloud_pid());
}

#[test]
fn a_port_in_use_is_named_with_a_way_on() {
    let project = Project::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();

    for args in [
        &["local", "up", "--port", &port, "--json"][..],
        &["local", "up", "--detach", "--port", &port, "--json"],
    ] {
        let up = project.run(args);
        assert_eq!(up.code(), 1);
        let result = up.json();
        assert_eq!(result["error"]["code"], "port_in_use", "{result}");
        assert!(result["error"]["help"].as_str().unwrap().contains("--port"), "{result}");
    }
    assert!(!project.state("local.json").exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_a_way_on() {
    let project = Project::new();
    // A file where the directory should be stops the superuser as well, whom a mode would not.
    std::fs::write(project.root().join(".chatctl"), "").unwrap();
    let up = project.run(&["local", "up", "--port", "0", "--json"]);
    assert_eq!(up.code(), 1);
    let result = up.json();
    assert_eq!(result["error"]["code"], "state_not_writable", "{result}");
    assert!(result["error"]["help"].as_str().unwrap().contains("CHATCTL_STATE_DIR"), "{result}");
}

#[test]
fn a_cloud_that_dies_at_its_start_shows_its_last_words() {
    let project = Project::new();
    std::fs::create_dir(project.state("")).unwrap();
    std::fs::write(project.state("data"), "this should be a directory").unwrap();
    let up = project.run(&["local", "up", "--detach", "--port", "0", "--json"]);
    assert_eq!(up.code(), 1);
    let result = up.json();
    assert_eq!(result["error"]["code"], "cloud_not_started");
    let causes = result["error"]["causes"].as_array().unwrap();
    assert!(causes.iter().any(|line| line.as_str().unwrap().contains("error:")), "{result}");
}

#[test]
fn a_second_cloud_of_the_same_project_is_refused() {
    let project = Project::new();
    project.run(&["local", "up", "--detach", "--port", "0"]);
    let up = project.run(&["local", "up", "--port", "0", "--json"]);
    assert_eq!(up.code(), 4);
    assert_eq!(up.json()["error"]["code"], "already_running");
}

#[test]
fn keys_are_for_their_owner_only() {
    let project = Project::new();
    let first = project.run(&["token", "--user", "alice"]);
    assert_eq!(first.code(), 0, "{}", first.stderr());
    let token = first.stdout().trim();
    assert_eq!(token.split('.').count(), 3, "{token}");

    let key = project.state("keys/local.pk8");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(project.state("keys")).unwrap().permissions().mode() & 0o777, 0o700);

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = project.run(&["token", "--user", "alice", "--json"]);
    assert_eq!(exposed.code(), 4);
    assert_eq!(exposed.json()["error"]["code"], "key_exposed");
}
