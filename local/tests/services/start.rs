//! What keeps a cloud from starting is said clearly, and what it kept is there when it starts again.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{Cloud, CloudConfig, StartError};

use crate::caller::{Caller, cloud, create_table};

/// Names the data directory to the child of a test.
const CHILD_DATA: &str = "CHAT_LOCAL_TEST_DATA";

fn in_directory(path: &Path) -> CloudConfig {
    CloudConfig { data: Some(path.to_owned()), ..CloudConfig::in_memory() }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = cloud().await;
    let config = CloudConfig { listen: first.addr(), ..CloudConfig::in_memory() };
    let error = Cloud::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::PortInUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("port {}", first.addr().port())), "{error}");
    first.shutdown().await;
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let config = || CloudConfig { listen: everywhere, ..CloudConfig::in_memory() };
    let error = Cloud::start(config()).await.err().unwrap();
    assert!(matches!(error, StartError::NotLoopback { .. }), "{error:?}");
    let mut asked = config();
    asked.settings.allow_remote = true;
    Cloud::start(asked).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_second_cloud_on_the_same_data_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = Cloud::start(in_directory(directory.path())).await.unwrap();
    let error = Cloud::start(in_directory(directory.path())).await.err().unwrap();
    assert!(error.to_string().contains(&format!("(process {})", std::process::id())), "{error}");
    first.shutdown().await;
    Cloud::start(in_directory(directory.path())).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    // A file in the way works for every user; permissions would not stop root.
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Cloud::start(in_directory(&path)).await.err().unwrap();
    assert!(matches!(error, StartError::DataDirectory { .. }), "{error:?}");
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "start::writes_until_killed", "--ignored", "--nocapture"])
            .env(CHILD_DATA, &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let written =
            lines.filter_map(|line| line.strip_prefix("written ")?.parse::<u32>().ok()).find(|n| *n >= 40);
        child.kill().unwrap();
        child.wait().unwrap();
        written.unwrap()
    });
    let written = read.await.unwrap();

    let cloud = Cloud::start(in_directory(directory.path())).await.unwrap();
    let owner = Caller::owner(&cloud);
    for n in 0..=written {
        let key = AttributeValue::S(n.to_string());
        let read = owner.dynamodb().get_item().table_name("things").key("k", key).send().await.unwrap();
        assert!(read.item().is_some(), "item {n} of {written}");
    }
    owner.iam().get_role().role_name("kept").send().await.unwrap();
    owner.logs().describe_log_streams().log_group_name("/kept").send().await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test]
#[ignore = "the child of what_was_acknowledged_survives_kill_9"]
async fn writes_until_killed() {
    let data = std::env::var_os(CHILD_DATA).unwrap();
    let cloud = Cloud::start(in_directory(Path::new(&data))).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    owner.create_role("kept", r#"{"Effect":"Allow","Action":"dynamodb:*","Resource":"*"}"#).await;
    owner.logs().create_log_group().log_group_name("/kept").send().await.unwrap();
    for n in 0_u32.. {
        let key = AttributeValue::S(n.to_string());
        owner.dynamodb().put_item().table_name("things").item("k", key).send().await.unwrap();
        println!("written {n}");
    }
}
