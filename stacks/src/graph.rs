//! The order in which resources can be made: a graph of addresses, free of cycles.

use std::collections::HashMap;

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use crate::address::Address;
use crate::error::Error;

/// Addresses with an edge from each to those that wait for it.
#[derive(Debug)]
pub(crate) struct Graph {
    graph: DiGraph<Address, ()>,
    order: Vec<NodeIndex>,
}

impl Graph {
    /// Needs that are not nodes themselves are ignored: they are there already.
    pub(crate) fn new(nodes: impl IntoIterator<Item = (Address, Vec<Address>)>) -> Result<Self, Error> {
        let nodes: Vec<(Address, Vec<Address>)> = nodes.into_iter().collect();
        let mut graph = DiGraph::new();
        let mut index: HashMap<Address, NodeIndex> = HashMap::new();
        for (address, _) in &nodes {
            if index.insert(address.clone(), graph.add_node(address.clone())).is_some() {
                return Err(Error::bug(format!("{address} is there twice")));
            }
        }
        for (address, needs) in &nodes {
            for need in needs {
                if let (Some(from), Some(to)) = (index.get(need), index.get(address)) {
                    graph.update_edge(*from, *to, ());
                }
            }
        }
        let order = toposort(&graph, None)
            .map_err(|cycle| Error::bug(format!("{} needs itself", graph[cycle.node_id()])))?;
        Ok(Self { graph, order })
    }

    /// Everything, each after what it needs.
    pub(crate) fn order(&self) -> impl Iterator<Item = &Address> {
        self.order.iter().map(|node| &self.graph[*node])
    }

    /// For each address how many others in a row wait for it: where the longest path is, and so what to start first.
    pub(crate) fn urgency(&self) -> HashMap<Address, usize> {
        let mut below: HashMap<NodeIndex, usize> = HashMap::new();
        for node in self.order.iter().rev() {
            let longest =
                self.graph.edges(*node).map(|edge| below.get(&edge.target()).map_or(0, |n| n + 1)).max();
            below.insert(*node, longest.unwrap_or(0));
        }
        below.into_iter().map(|(node, depth)| (self.graph[node].clone(), depth)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Kind;

    fn at(name: &str) -> Address {
        Address::new(Kind::Route, name)
    }

    #[test]
    fn what_is_needed_comes_first_and_the_longest_path_is_most_urgent() {
        let graph = Graph::new([
            (at("c"), vec![at("b")]),
            (at("a"), vec![]),
            (at("b"), vec![at("a"), at("there already")]),
            (at("d"), vec![at("a")]),
        ])
        .unwrap();
        let order: Vec<&Address> = graph.order().collect();
        let place = |name: &str| order.iter().position(|address| **address == at(name)).unwrap();
        assert!(place("a") < place("b") && place("b") < place("c") && place("a") < place("d"));
        let urgency = graph.urgency();
        assert_eq!((urgency[&at("a")], urgency[&at("b")], urgency[&at("d")]), (2, 1, 0));
    }

    #[test]
    fn a_cycle_is_refused() {
        let error = Graph::new([(at("a"), vec![at("b")]), (at("b"), vec![at("a")])]).unwrap_err();
        assert!(error.to_string().contains("needs itself"), "{error}");
    }
}
