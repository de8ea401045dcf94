"""Where a model and its service disagree, or a model is silent. Each says where it is seen, and why it is let pass."""

import re
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    # Matched against a whole finding: service, operation, side, path, and what was noted.
    pattern: str
    reason: str


EXPLAINED = (
    Explanation(
        r"cloudformation:DescribeStackEvents answer StackEvents\[\d+\]\.ResourceStatus: "
        r"'(REVIEW_IN_PROGRESS|UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)' is not among .*",
        "events of a stack itself carry the stack's status, which has values that the enum of resources lacks",
    ),
    Explanation(
        r"dynamodb:\w+ answer .*ProvisionedThroughput\.NumberOfDecreasesToday: 0 is .*",
        "a table that was not decreased today says 0, as in the examples of DescribeTable",
    ),
    Explanation(
        r"iam:\w+ answer .*PermissionsBoundaryType: 'Policy' is not among PermissionsBoundaryPolicy",
        "the text of the same model says that the only value is `Policy`, and AWS answers that",
    ),
    Explanation(
        r"lambda:\w+ answer (Configuration\.)?LastUpdateStatusReasonCode: 'Creating' is not among .*",
        "what Lambda says while an update is in progress: appleboy/lambda-action#65 has a log of it",
    ),
    Explanation(
        r"\w+:\w+ answer \(whole\): the error (InvalidAction|UnknownOperationException) is not modelled; .*",
        "what services say of operations that they do not have, which is how the local cloud refuses those it lacks",
    ),
    Explanation(
        r"s3:PutBucketTagging answer \(whole\): status 204, not 200",
        "S3 answers 204 No Content, as its reference shows; the model has no status for it",
    ),
    Explanation(
        r"s3:(HeadBucket|HeadObject) answer \(whole\): the error (403|404) is not modelled; .*",
        "an answer to HEAD has no body to name an error in: SDKs take the status for its code",
    ),
    Explanation(
        r"s3:\w+ answer \(whole\): the error (BucketNotEmpty|NoSuchBucket|NoSuchTagSet) is not modelled; .*",
        "on S3's list of error responses, which its model does not repeat for each operation",
    ),
)


def sort_out(findings):
    """What is left without an explanation, and how often each explanation was needed."""
    left, used = Counter(), Counter()
    for finding, times in findings.items():
        explanation = next((each for each in EXPLAINED if re.fullmatch(each.pattern, finding)), None)
        if explanation:
            used[explanation] += times
        else:
            left[finding] += times
    return left, used
