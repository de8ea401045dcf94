//! IAM is enforced: a session may do what the policies of its role say and nothing else.

use aws_sdk_dynamodb::types::{AttributeValue, Put, PutRequest, TransactWriteItem, WriteRequest};

use chat_local::{Cloud, CloudConfig, Settings};

use crate::caller::{Caller, cloud, create_table, refusal};

const TABLE: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/things";

#[tokio::test]
async fn a_role_may_do_what_its_policy_says_and_nothing_else() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    owner
        .create_role(
            "writer",
            &format!(r#"{{"Effect":"Allow","Action":"dynamodb:PutItem","Resource":"{TABLE}"}}"#),
        )
        .await;
    let writer = owner.assume("writer").await;
    let identity = writer.sts().get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some("arn:aws:sts::000000000000:assumed-role/writer/session"));

    let key = || AttributeValue::S("1".to_owned());
    writer.dynamodb().put_item().table_name("things").item("k", key()).send().await.unwrap();
    let (code, message) =
        refusal(writer.dynamodb().get_item().table_name("things").key("k", key()).send().await);
    assert_eq!(code, "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "User: arn:aws:sts::000000000000:assumed-role/writer/session is not authorized to perform: \
             dynamodb:GetItem on resource: {TABLE} because no identity-based policy allows the dynamodb:GetItem action"
        )
    );
    let elsewhere = writer.dynamodb().put_item().table_name("others").item("k", key()).send().await;
    assert_eq!(
        refusal(elsewhere).0,
        "AccessDeniedException",
        "before anyone learns that there is no such table"
    );
    assert_eq!(refusal(writer.iam().list_roles().send().await).0, "AccessDenied");
    assert_eq!(refusal(writer.logs().describe_log_groups().send().await).0, "AccessDeniedException");
    assert_eq!(refusal(writer.lambda().list_functions().send().await).0, "AccessDeniedException");

    // Changes of the policy count at once, and the session ends with the role.
    owner.iam().delete_role_policy().role_name("writer").policy_name("p").send().await.unwrap();
    let put = || writer.dynamodb().put_item().table_name("things").item("k", key()).send();
    assert_eq!(refusal(put().await).0, "AccessDeniedException");
    owner.iam().delete_role().role_name("writer").send().await.unwrap();
    assert_eq!(refusal(put().await).0, "UnrecognizedClientException");
    cloud.shutdown().await;
}

#[tokio::test]
async fn no_policy_reaches_beyond_the_permissions_boundary() {
    const LOGS_ONLY: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    owner
        .create_role("wide", r#"{"Effect":"Allow","Action":["iam:ListRoles","logs:*"],"Resource":"*"}"#)
        .await;
    let wide = owner.assume("wide").await;
    wide.iam().list_roles().send().await.unwrap();
    let bound = || owner.iam().put_role_permissions_boundary().role_name("wide");
    let (code, _) = refusal(bound().permissions_boundary("arn:aws:iam::aws:policy/Nothing").send().await);
    assert_eq!(code, "NoSuchEntity");

    bound().permissions_boundary(LOGS_ONLY).send().await.unwrap();

    let (code, message) = refusal(wide.iam().list_roles().send().await);
    assert_eq!(code, "AccessDenied");
    assert!(
        message.ends_with("because no permissions boundary allows the iam:ListRoles action"),
        "{message}"
    );
    wide.logs().create_log_group().log_group_name("within-both").send().await.unwrap();
    let role = owner.iam().get_role().role_name("wide").send().await.unwrap().role.unwrap();
    let shown = role.permissions_boundary().and_then(|boundary| boundary.permissions_boundary_arn());
    assert_eq!(shown, Some(LOGS_ONLY));

    let unbound = || owner.iam().delete_role_permissions_boundary().role_name("wide").send();
    unbound().await.unwrap();
    wide.iam().list_roles().send().await.unwrap();
    assert_eq!(refusal(unbound().await).0, "NoSuchEntity");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_region_that_policies_ask_for_is_the_clouds_own_and_of_iam_the_one_where_it_is() {
    let settings = Settings { region: "eu-west-1".to_owned(), ..Settings::default() };
    let cloud = Cloud::start(CloudConfig { settings, ..CloudConfig::in_memory() }).await.unwrap();
    let owner = Caller::owner(&cloud);
    for region in ["eu-west-1", "us-east-1"] {
        let condition = format!(r#"{{"StringEquals":{{"aws:RequestedRegion":"{region}"}}}}"#);
        owner
            .create_role(
                region,
                &format!(
                    r#"{{"Effect":"Allow","Action":["iam:ListRoles","logs:DescribeLogGroups"],"Resource":"*","Condition":{condition}}}"#
                ),
            )
            .await;
    }

    let here = owner.assume("eu-west-1").await;
    here.logs().describe_log_groups().send().await.unwrap();
    assert_eq!(refusal(here.iam().list_roles().send().await).0, "AccessDenied");
    let there = owner.assume("us-east-1").await;
    there.iam().list_roles().send().await.unwrap();
    assert_eq!(refusal(there.logs().describe_log_groups().send().await).0, "AccessDeniedException");
    cloud.shutdown().await;
}

#[tokio::test]
async fn calls_are_counted_by_operation_and_principal_even_if_refused() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    owner.create_role("reader", r#"{"Effect":"Allow","Action":"dynamodb:GetItem","Resource":"*"}"#).await;
    let reader = owner.assume("reader").await;
    let key = || AttributeValue::S("1".to_owned());
    for _ in 0..3 {
        reader.dynamodb().get_item().table_name("things").key("k", key()).send().await.unwrap();
    }
    reader.dynamodb().put_item().table_name("things").item("k", key()).send().await.unwrap_err();
    owner.dynamodb().get_item().table_name("things").key("k", key()).send().await.unwrap();
    assert_eq!(cloud.calls().count("dynamodb", "GetItem"), 4);
    assert_eq!(cloud.calls().count_of_role("reader", "dynamodb", "GetItem"), 3);
    assert_eq!(cloud.calls().count_of_role("reader", "dynamodb", "PutItem"), 1);
    let of_reader: Vec<_> = cloud
        .calls()
        .all()
        .into_iter()
        .filter(|count| count.principal.as_deref() == Some("reader"))
        .collect();
    assert_eq!(of_reader.len(), 2);
    cloud.calls().reset();
    assert!(cloud.calls().all().is_empty());
    cloud.shutdown().await;
}

#[tokio::test]
async fn documents_read_back_encoded_and_policies_keep_a_role_from_being_deleted() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    owner.create_role("kept", r#"{"Effect":"Allow","Action":"dynamodb:GetItem","Resource":"*"}"#).await;
    let iam = owner.iam();
    let read = iam.get_role_policy().role_name("kept").policy_name("p").send().await.unwrap();
    assert!(
        read.policy_document().starts_with("%7B%22Version%22%3A%222012-10-17%22"),
        "{}",
        read.policy_document()
    );
    let delete = || iam.delete_role().role_name("kept").send();
    let (code, message) = refusal(delete().await);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("DeleteConflict", "Cannot delete entity, must delete policies first.")
    );
    iam.delete_role_policy().role_name("kept").policy_name("p").send().await.unwrap();
    delete().await.unwrap();
    assert_eq!(refusal(delete().await).0, "NoSuchEntity");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_condition_on_leading_keys_holds_however_the_table_is_named() {
    const OWN: &str = r#"{"Effect":"Allow","Action":"dynamodb:*Item","Resource":"*",
        "Condition":{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["mine"]}}}"#;
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    owner.create_role("limited", OWN).await;
    let dynamodb = owner.assume("limited").await.dynamodb();
    let key = |value: &str| AttributeValue::S(value.to_owned());
    for table in ["things", "arn:aws:dynamodb:us-east-1:000000000000:table/things"] {
        let put = |value| dynamodb.put_item().table_name(table).item("k", key(value)).send();
        put("mine").await.unwrap();
        assert_eq!(refusal(put("theirs").await).0, "AccessDeniedException", "{table}");
        let transact = |value| {
            let put = Put::builder().table_name(table).item("k", key(value)).build().unwrap();
            let items = TransactWriteItem::builder().put(put).build();
            dynamodb.transact_write_items().transact_items(items).send()
        };
        transact("mine").await.unwrap();
        assert_eq!(refusal(transact("theirs").await).0, "AccessDeniedException", "{table}");
        let write = |value| {
            let put = PutRequest::builder().item("k", key(value)).build().unwrap();
            let request = WriteRequest::builder().put_request(put).build();
            dynamodb.batch_write_item().request_items(table, vec![request]).send()
        };
        write("mine").await.unwrap();
        assert_eq!(refusal(write("theirs").await).0, "AccessDeniedException", "{table}");
    }
    cloud.shutdown().await;
}
