//! Counts every call that reached a service, so that a test can hold a program to what it promises to spend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::Principal;

/// The calls of a cloud since it started or since [`Calls::reset`]. Clones share the counts.
#[derive(Clone, Default)]
pub struct Calls {
    counts: Arc<Mutex<HashMap<Caller, HashMap<Operation, u64>>>>,
}

/// Service and operation, for instance `("dynamodb", "PutItem")`.
type Operation = (&'static str, &'static str);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Caller {
    Owner,
    User(String),
    Role(String),
}

/// How often a principal called an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCount {
    pub service: &'static str,
    pub operation: &'static str,
    /// Name of the role or user; `None` is the owner.
    pub principal: Option<String>,
    pub count: u64,
}

impl Calls {
    /// Everything that was called, in the order of service, operation, principal.
    pub fn all(&self) -> Vec<CallCount> {
        let counts = self.lock();
        let mut all: Vec<CallCount> = counts
            .iter()
            .flat_map(|(caller, operations)| {
                operations.iter().map(|(&(service, operation), &count)| CallCount {
                    service,
                    operation,
                    principal: match caller {
                        Caller::Owner => None,
                        Caller::User(name) | Caller::Role(name) => Some(name.clone()),
                    },
                    count,
                })
            })
            .collect();
        all.sort_by(|a, b| {
            (a.service, a.operation, &a.principal).cmp(&(b.service, b.operation, &b.principal))
        });
        all
    }

    /// Calls of one operation by everybody.
    pub fn count(&self, service: &str, operation: &str) -> u64 {
        self.lock()
            .values()
            .flat_map(HashMap::iter)
            .filter(|((of, name), _)| *of == service && *name == operation)
            .map(|(_, count)| count)
            .sum()
    }

    /// Calls of one operation by the sessions of a role.
    pub fn count_of_role(&self, role_name: &str, service: &str, operation: &str) -> u64 {
        let counts = self.lock();
        let operations = counts.get(&Caller::Role(role_name.to_owned()));
        operations
            .into_iter()
            .flatten()
            .filter(|((of, name), _)| *of == service && *name == operation)
            .map(|(_, count)| count)
            .sum()
    }

    pub fn reset(&self) {
        self.lock().clear();
    }

    pub(crate) fn add(&self, who: &Principal, service: &'static str, operation: &'static str) {
        let caller = match who {
            Principal::Owner => Caller::Owner,
            Principal::User { user_name } => Caller::User(user_name.clone()),
            Principal::Role { role_name, .. } => Caller::Role(role_name.clone()),
        };
        *self.lock().entry(caller).or_default().entry((service, operation)).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Caller, HashMap<Operation, u64>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
