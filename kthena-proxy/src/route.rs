//! Which route and target a request belongs to.
//!
//! Pure: it reads a snapshot and a request, draws one random number where weights decide, and counts nothing.

use std::sync::Arc;

use http::HeaderMap;
use kthena_api::pattern::StringMatcher;

use crate::cluster::snapshot::{Server, Snapshot};

/// A ModelRoute, ready to match.
#[derive(Debug)]
pub struct Route {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Whether it belongs to Gateways alone. Such a route never serves traffic that came through none.
    pub gateways_only: bool,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule of a route.
#[derive(Debug)]
pub struct Rule {
    /// When it applies.
    pub condition: Condition,
    /// Where it leads.
    pub targets: Vec<Target>,
}

/// When a rule applies: all parts must hold.
#[derive(Debug, Default)]
pub struct Condition {
    /// Header conditions by name. A header that is absent counts as empty.
    pub headers: Vec<(http::HeaderName, StringMatcher)>,
    /// Condition on the path, without its query.
    pub path: Option<StringMatcher>,
    /// Condition on the model that the client named.
    pub model: Option<String>,
    /// Set where a condition can never hold, such as a pattern that does not compile.
    pub never: bool,
}

/// Where a rule leads.
#[derive(Debug)]
pub struct Target {
    /// The backend.
    pub backend: Backend,
    /// Its share among the targets of the rule.
    pub weight: u32,
}

/// What answers.
#[derive(Debug)]
pub enum Backend {
    /// A ModelServer by `namespace/name`, and what the snapshot knows of it.
    Server(Arc<str>, Option<Arc<Server>>),
    /// An ExternalModelProvider by `namespace/name`.
    Provider(Arc<str>),
}

/// What matching looks at.
#[derive(Debug)]
pub struct Query<'a> {
    /// The `model` that the client named.
    pub model: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// What was found.
#[derive(Debug)]
pub struct Found<'s> {
    /// The route.
    pub route: &'s Arc<Route>,
    /// The target.
    pub target: &'s Target,
    /// Whether the client named an adapter: its name is then kept.
    pub lora: bool,
}

impl Snapshot {
    /// The route and target of a request. `draw` gives a number below its argument.
    ///
    /// Routes that name the model are tried first, then those that list it as an adapter; among equals the oldest first. The
    /// first rule that applies decides; a rule whose weights are all zero leads nowhere and is passed over.
    pub fn find(&self, query: &Query<'_>, mut draw: impl FnMut(u32) -> u32) -> Option<Found<'_>> {
        let named = self.models.get(query.model).map(|routes| (routes, false));
        let adapted = self.adapters.get(query.model).map(|routes| (routes, true));
        for (routes, lora) in named.into_iter().chain(adapted) {
            for route in routes.iter().filter(|route| !route.gateways_only) {
                for rule in route.rules.iter().filter(|rule| rule.condition.holds(query)) {
                    if let Some(target) = rule.choose(&mut draw) {
                        return Some(Found { route, target, lora });
                    }
                }
            }
        }
        None
    }
}

impl Condition {
    fn holds(&self, query: &Query<'_>) -> bool {
        !self.never
            && self.model.as_ref().is_none_or(|model| model == query.model)
            && self.path.as_ref().is_none_or(|path| path.matches(query.path))
            && self.headers.iter().all(|(name, condition)| {
                let value = query.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
                std::str::from_utf8(value).is_ok_and(|value| condition.matches(value))
            })
    }
}

impl Rule {
    fn choose(&self, draw: &mut impl FnMut(u32) -> u32) -> Option<&Target> {
        let total: u32 = self.targets.iter().map(|target| target.weight).sum();
        match self.targets.as_slice() {
            _ if total == 0 => None,
            [only] => Some(only),
            several => {
                let mut drawn = draw(total);
                several.iter().find(|target| {
                    let chosen = drawn < target.weight;
                    drawn = drawn.saturating_sub(target.weight);
                    chosen
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
