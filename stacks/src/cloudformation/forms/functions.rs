//! The functions with what they may do and what invokes them.

use aws_sdk_lambda::types::Runtime;
use serde_json::{Value, json};

use super::{Declared, Form, Part, tag_list};
use crate::artifact::Artifact;
use crate::cloudformation::logical_id::logical_id;
use crate::cloudformation::reference;
use crate::cloudformation::template::{Synth, digest};
use crate::policy;
use crate::resource::Resource;
use crate::resources::alias::{self, Alias};
use crate::resources::function::{self, Function};
use crate::resources::permission::Permission;
use crate::resources::policy::Policy;
use crate::resources::role::{self, Role};

/// What a published version is made of. Tags are not part of it: publishing again because of them is refused with
/// "A version for this Lambda function exists". Source: <https://github.com/aws/aws-cdk/issues/5334>
const VERSIONED: [&str; 9] = [
    "Architectures",
    "Code",
    "Description",
    "Environment",
    "Handler",
    "MemorySize",
    "Role",
    "Runtime",
    "Timeout",
];

impl Form for Role {
    fn form(&self, _: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let outputs = [
            ("name", reference::to(&id)),
            ("arn", reference::to_attribute(&id, "Arn")),
            ("id", reference::to_attribute(&id, "RoleId")),
        ];
        let name = self.scope.function(self.handler);
        Part::new(
            id,
            "AWS::IAM::Role",
            json!({
                "Description": format!("What {name} may do"),
                "RoleName": name,
                "Path": self.scope.role_path(),
                "AssumeRolePolicyDocument": policy::trust("lambda.amazonaws.com"),
                "Tags": tag_list(&self.scope),
            }),
        )
        .declared(outputs)
    }
}

impl Form for Policy {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let role = role::address(self.handler.name());
        Part::new(
            logical_id(&self.address()),
            "AWS::IAM::RolePolicy",
            json!({
                "RoleName": synth.output(&role, "name"),
                "PolicyName": crate::resources::policy::NAME,
                "PolicyDocument": self.document(synth.outputs()),
            }),
        )
        .declared([])
    }
}

impl Form for Function {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let role = role::address(self.handler.name());
        // Templates are made of packed code only.
        let artifact = self.code.known();
        let function = Part::new(
            id.clone(),
            "AWS::Lambda::Function",
            json!({
                "FunctionName": self.name(),
                "Description": self.description(synth.outputs()),
                "Runtime": Runtime::Providedal2023.as_str(),
                "Handler": "bootstrap",
                "Architectures": [self.architecture],
                "MemorySize": self.memory_mb,
                "Timeout": self.timeout_s,
                "Role": synth.output(&role, "arn"),
                "Environment": { "Variables": self.environment(synth.outputs()) },
                "Code": { "S3Bucket": synth.bucket(), "S3Key": artifact.as_ref().map(Artifact::key) },
                "Tags": tag_list(&self.scope),
            }),
        )
        .accepting(&[
            ("CKV_AWS_115", "a reservation would take concurrency from everything else in the account"),
            (
                "CKV_AWS_116",
                "API Gateway invokes it and waits for the answer: there is nothing to put into a queue",
            ),
            ("CKV_AWS_117", "it talks to AWS alone; a VPC would cost a NAT gateway and slower starts"),
            ("CKV_AWS_173", "the environment holds names and public keys, no secrets"),
        ]);
        let versioned: Vec<(&str, &Value)> =
            VERSIONED.iter().filter_map(|name| Some((*name, function.properties.get(*name)?))).collect();
        // A version never changes, so another one is another resource.
        let version = Part::new(
            format!("{}{}", id.replacen("Function", "Version", 1), digest(&json!(versioned))),
            "AWS::Lambda::Version",
            json!({ "FunctionName": reference::to(&id), "CodeSha256": artifact.as_ref().map(Artifact::sha256) }),
        );
        let outputs = [
            ("name", reference::to(&id)),
            ("arn", reference::to_attribute(&id, "Arn")),
            ("version", reference::to_attribute(&version.id, "Version")),
        ];
        Declared { parts: vec![function, version], outputs: outputs.into() }
    }
}

impl Form for Alias {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let function = function::address(self.handler.name());
        let arn = reference::to(&id);
        Part::new(
            id,
            "AWS::Lambda::Alias",
            json!({
                "Name": alias::NAME,
                "FunctionName": synth.output(&function, "name"),
                "FunctionVersion": synth.output(&function, "version"),
            }),
        )
        .declared([("arn", arn)])
    }
}

impl Form for Permission {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        Part::new(
            logical_id(&self.address()),
            "AWS::Lambda::Permission",
            json!({
                "FunctionName": synth.output(&alias::address(self.handler.name()), "arn"),
                "Action": "lambda:InvokeFunction",
                "Principal": "apigateway.amazonaws.com",
                "SourceArn": self.source_arn(synth.outputs()),
            }),
        )
        .declared([])
    }
}
