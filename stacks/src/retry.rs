//! Every reason to make a refused call again, in one place, each with its source. What is not listed here is final.
//!
//! Throttling and dropped connections of calls that may safely be repeated are retried below this, by the SDK
//! (see [`crate::aws`]); here are the answers that only mean "not yet" while a stack is being put together. They are
//! told by typed code and message, never by rendered text.

use std::time::Duration;

use rand::RngExt;

use crate::error::AwsFailure;

struct Rule {
    /// Empty: whatever the call.
    operations: &'static [&'static str],
    code: &'static str,
    /// Empty: whatever the message. Otherwise one of these must be part of it.
    messages: &'static [&'static str],
    /// How long it may go on.
    limit: Duration,
    pace: Pace,
}

/// How long to wait between attempts.
enum Pace {
    /// 0.1 s, then doubling up to 5 s.
    Growing,
    /// For what is known to take some seconds, and whose end is worth not missing.
    Steady { first: Duration, then: Duration },
}

/// How long a function that was created a moment ago may not be found by all.
pub(crate) const NEW_FUNCTION_UNSEEN: Duration = Duration::from_secs(60);

const RULES: &[Rule] = &[
    // A role is visible to Lambda some seconds after IAM has it, and to KMS, which encrypts the environment, at a time of
    // its own: pulumi-aws-native#148; terraform-provider-aws#4633 and its internal/service/lambda/function.go,
    // retryFunctionOp. Usually under 10 s, seen up to a minute. Each attempt uploads the code, so it is not tried more
    // often than that is worth.
    Rule {
        operations: &["CreateFunction", "UpdateFunctionConfiguration"],
        code: "InvalidParameterValueException",
        messages: &[
            "The role defined for the function cannot be assumed by Lambda",
            "The provided execution role does not have permissions",
            "KMS key is invalid for CreateGrant",
        ],
        limit: Duration::from_secs(120),
        pace: Pace::Steady { first: Duration::from_secs(3), then: Duration::from_secs(1) },
    },
    // A function takes one change at a time: aws-facts, Lambda 3.
    Rule {
        operations: &[
            "UpdateFunctionCode",
            "UpdateFunctionConfiguration",
            "PublishVersion",
            "CreateAlias",
            "UpdateAlias",
            "AddPermission",
            "RemovePermission",
            "DeleteFunction",
            "CreateFunction",
        ],
        code: "ResourceConflictException",
        messages: &["in progress", "currently in the following state: Pending"],
        limit: Duration::from_secs(120),
        pace: Pace::Growing,
    },
    // A function right after it was created, and an alias likewise: terraform-provider-aws#7214 and #25440.
    Rule {
        operations: &["CreateAlias", "AddPermission"],
        code: "ResourceNotFoundException",
        messages: &["Function not found", "Cannot find alias arn"],
        limit: NEW_FUNCTION_UNSEEN,
        pace: Pace::Growing,
    },
    // The resource policy was changed by another call at the same time: terraform-provider-aws#789.
    Rule {
        operations: &["AddPermission", "RemovePermission"],
        code: "PreconditionFailedException",
        messages: &[],
        limit: Duration::from_secs(30),
        pace: Pace::Growing,
    },
    // A principal in a trust policy that was made a moment ago: aws-facts, IAM.
    Rule {
        operations: &["CreateRole", "UpdateAssumeRolePolicy"],
        code: "MalformedPolicyDocument",
        messages: &["Invalid principal in policy"],
        limit: Duration::from_secs(30),
        pace: Pace::Growing,
    },
    // IAM is eventually consistent with itself, too.
    Rule {
        operations: &["PutRolePolicy"],
        code: "NoSuchEntity",
        messages: &["The role with name"],
        limit: Duration::from_secs(30),
        pace: Pace::Growing,
    },
    Rule {
        operations: &["DeleteRole"],
        code: "DeleteConflict",
        messages: &[],
        limit: Duration::from_secs(30),
        pace: Pace::Growing,
    },
    Rule {
        operations: &[],
        code: "ConcurrentModification",
        messages: &[],
        limit: Duration::from_secs(30),
        pace: Pace::Growing,
    },
    // "Already exists" has the same code and is a fact, not a hiccup: aws-facts, API Gateway 9.
    Rule {
        operations: &[],
        code: "ConflictException",
        messages: &["try again later", "concurrent modification"],
        limit: Duration::from_secs(60),
        pace: Pace::Growing,
    },
    // CreateDeployment once in 5 s, the rest 10 a second, for the account: aws-facts, quotas. The calls that must not
    // be repeated blindly go without the SDK's own retries, so their throttling arrives here.
    Rule {
        operations: &[],
        code: "TooManyRequestsException",
        messages: &[],
        limit: Duration::from_secs(90),
        pace: Pace::Growing,
    },
    // A child right after its API, seen under load: read-your-writes is not promised.
    Rule {
        operations: &[
            "CreateRoute",
            "CreateIntegration",
            "CreateAuthorizer",
            "CreateRouteResponse",
            "CreateIntegrationResponse",
            "CreateDeployment",
            "CreateStage",
        ],
        code: "NotFoundException",
        messages: &["Invalid API identifier", "Invalid Integration identifier", "Invalid Route identifier"],
        limit: Duration::from_secs(10),
        pace: Pace::Growing,
    },
    // Tables: another change of the same table, or of too many at once: aws-facts, DynamoDB.
    Rule {
        operations: &[
            "CreateTable",
            "UpdateTable",
            "DeleteTable",
            "UpdateTimeToLive",
            "UpdateContinuousBackups",
        ],
        code: "LimitExceededException",
        messages: &["simultaneously", "Too many operations"],
        limit: Duration::from_secs(300),
        pace: Pace::Growing,
    },
    Rule {
        operations: &["UpdateTable", "DeleteTable", "UpdateTimeToLive", "UpdateContinuousBackups"],
        code: "ResourceInUseException",
        messages: &[],
        limit: Duration::from_secs(300),
        pace: Pace::Growing,
    },
    Rule {
        operations: &["UpdateContinuousBackups"],
        code: "ContinuousBackupsUnavailableException",
        messages: &[],
        limit: Duration::from_secs(120),
        pace: Pace::Growing,
    },
    // Two changes of one log group at the same time: aws-facts, Logs.
    Rule {
        operations: &[],
        code: "OperationAbortedException",
        messages: &[],
        limit: Duration::from_secs(60),
        pace: Pace::Growing,
    },
];

/// How long to wait before the call is made again, or `None` if it failed for good.
pub(crate) fn wait_before_next(failure: &AwsFailure, attempt: u32, elapsed: Duration) -> Option<Duration> {
    let rule = RULES.iter().find(|rule| rule.matches(failure))?;
    if elapsed >= rule.limit {
        return None;
    }
    // Jitter, so that those who were refused together do not come back together.
    Some(match rule.pace {
        Pace::Growing => {
            let ceiling = Duration::from_millis(100 << attempt.min(6)).min(Duration::from_secs(5));
            ceiling.mul_f64(rand::rng().random_range(0.25..=1.0))
        }
        Pace::Steady { first, then } => {
            let wait = if attempt == 0 { first } else { then };
            wait.mul_f64(rand::rng().random_range(0.9..=1.0))
        }
    })
}

/// Whether this is an answer that means "not yet".
pub(crate) fn is_not_yet(failure: &AwsFailure) -> bool {
    RULES.iter().any(|rule| rule.matches(failure))
}

impl Rule {
    fn matches(&self, failure: &AwsFailure) -> bool {
        (self.operations.is_empty() || self.operations.contains(&failure.operation))
            && failure.is(self.code)
            && (self.messages.is_empty() || self.messages.iter().any(|part| failure.message.contains(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(operation: &'static str, code: &str, message: &str) -> AwsFailure {
        AwsFailure {
            operation,
            code: Some(code.to_owned()),
            message: message.to_owned(),
            request_id: None,
            status: Some(400),
            ambiguous: false,
        }
    }

    fn is_retried(operation: &'static str, code: &str, message: &str) -> bool {
        wait_before_next(&failure(operation, code, message), 0, Duration::ZERO).is_some()
    }

    #[test]
    fn a_conflict_is_retried_only_if_it_says_so() {
        assert!(is_retried(
            "UpdateStage",
            "ConflictException",
            "Unable to complete operation due to concurrent modification. Please try again later."
        ));
        assert!(!is_retried(
            "CreateRoute",
            "ConflictException",
            "Route with key $connect already exists for this API"
        ));
    }

    #[test]
    fn a_role_that_is_not_assumable_yet_is_waited_for_but_a_wrong_parameter_is_not() {
        let message = "The role defined for the function cannot be assumed by Lambda.";
        assert!(is_retried("CreateFunction", "InvalidParameterValueException", message));
        assert!(!is_retried(
            "CreateFunction",
            "InvalidParameterValueException",
            "Unzipped size must be smaller"
        ));
        assert!(!is_retried("PublishVersion", "InvalidParameterValueException", message));
        assert!(is_retried(
            "CreateFunction",
            "InvalidParameterValueException",
            "Lambda was unable to configure access to your environment variables because the KMS key is invalid for \
             CreateGrant. KMS Exception: InvalidArnException KMS Message: ARN does not refer to a valid principal"
        ));
    }

    #[test]
    fn a_function_that_is_not_found_is_waited_for_only_where_it_was_just_made() {
        let message = "Function not found: arn:aws:lambda:us-east-1:123456789012:function:chat-dev-connect";
        for operation in ["CreateAlias", "AddPermission"] {
            assert!(is_retried(operation, "ResourceNotFoundException", message));
        }
        for operation in ["GetFunction", "UpdateAlias", "UpdateFunctionCode"] {
            assert!(!is_retried(operation, "ResourceNotFoundException", message));
        }
    }

    #[test]
    fn code_is_uploaded_again_once_a_second_and_not_at_once() {
        let message = "The role defined for the function cannot be assumed by Lambda.";
        let refused = failure("CreateFunction", "InvalidParameterValueException", message);
        let wait = |attempt| wait_before_next(&refused, attempt, Duration::ZERO).unwrap().as_secs_f64();
        assert!(
            (2.7..=3.0).contains(&wait(0))
                && (0.9..=1.0).contains(&wait(1))
                && (0.9..=1.0).contains(&wait(30))
        );
    }

    #[test]
    fn iam_codes_match_with_and_without_the_suffix() {
        for code in ["DeleteConflict", "DeleteConflictException"] {
            assert!(is_retried("DeleteRole", code, "Cannot delete entity, must delete policies first."));
        }
    }

    #[test]
    fn an_access_denied_is_final() {
        assert!(!is_retried(
            "CreateRole",
            "AccessDenied",
            "User is not authorized to perform: iam:CreateRole"
        ));
    }

    #[test]
    fn retries_end_and_their_waits_are_bounded() {
        let throttled = failure("CreateDeployment", "TooManyRequestsException", "Too Many Requests");
        assert!(wait_before_next(&throttled, 3, Duration::from_secs(90)).is_none());
        for attempt in 0..40 {
            let wait = wait_before_next(&throttled, attempt, Duration::ZERO).unwrap();
            assert!(wait <= Duration::from_secs(5) && wait >= Duration::from_millis(25));
        }
    }
}
