//! The disposition: mode and actions of a request, by account, tenant, clusters and route.
//!
//! Clients can choose the clusters that they belong to: they can send the template of a cluster, or
//! merge two clusters by sending one template from an account of each. So a policy section for a
//! cluster can only make the treatment stricter, even if its settings are milder. Only sections for
//! accounts and tenants, which clients cannot choose, make the treatment milder.

use crate::rules::policy::{
    Action, Band, ClusterPolicy, Disposition, Mode, Policy, PrincipalPolicy, RequestAttributes,
    RequestCluster, parse_cluster_id,
};

impl Policy {
    /// Returns mode and actions for a request without a cluster. For each of the two settings, the
    /// account overrides the tenant, the tenant the route, and the route the general setting.
    pub fn disposition(&self, request: &RequestAttributes<'_>) -> Disposition {
        self.disposition_in_clusters(&[], request)
    }

    /// Returns mode and actions for a request in some clusters. For each of the two settings, the
    /// account overrides the tenant. If neither has the setting, the strictest value of the
    /// clusters and the route applies; actions are compared per band. Overrides that have ended
    /// have no effect.
    pub fn disposition_in_clusters<'c>(
        &self,
        clusters: impl IntoIterator<Item = &'c RequestCluster>,
        request: &RequestAttributes<'_>,
    ) -> Disposition {
        let now = request.now;
        let account = find_override(&self.accounts, request.account, now);
        let tenant = find_override(&self.tenants, request.tenant, now);
        let mut disposition = self.route_disposition(request);
        for policy in clusters.into_iter().flat_map(|cluster| self.policies_of(cluster, now)) {
            let ClusterPolicy { mode, actions, .. } = policy;
            disposition.mode = mode.unwrap_or_default().max(disposition.mode);
            disposition.actions = actions
                .map_or(disposition.actions, |actions| actions.strictest(disposition.actions));
        }
        let mode = account
            .and_then(|policy| policy.mode)
            .or_else(|| tenant.and_then(|policy| policy.mode));
        let actions = account
            .and_then(|policy| policy.actions)
            .or_else(|| tenant.and_then(|policy| policy.actions));
        Disposition {
            mode: mode.unwrap_or(disposition.mode),
            actions: actions.unwrap_or(disposition.actions),
        }
    }

    /// Returns the cluster that would give a request in `band` the strictest treatment if it were
    /// the only cluster. Of equally strict clusters, returns the first.
    pub fn deciding_cluster<'c>(
        &self,
        clusters: &'c [RequestCluster],
        request: &RequestAttributes<'_>,
        band: Band,
    ) -> Option<&'c RequestCluster> {
        let severity = |cluster: &RequestCluster| {
            let Disposition { mode, actions } = self.disposition_in_clusters([cluster], request);
            let action = actions.action(band);
            let carried_out = if mode == Mode::Enforce { action } else { Action::Allow };
            (carried_out, action, mode)
        };
        // `max_by_key` returns the last of equal elements, so the order is reversed.
        clusters.iter().rev().max_by_key(|cluster| severity(cluster))
    }

    /// Returns the ids of the clusters that the policy names. Invalid ids are left out.
    pub fn cluster_ids(&self) -> impl Iterator<Item = u32> {
        self.clusters.iter().filter_map(|policy| parse_cluster_id(&policy.id))
    }

    /// Returns the policy sections that name a cluster by its id or by an alias, and that are in
    /// force at the time `now`.
    fn policies_of(
        &self,
        cluster: &RequestCluster,
        now: u64,
    ) -> impl Iterator<Item = &ClusterPolicy> {
        self.clusters.iter().filter(move |policy| {
            let id = parse_cluster_id(&policy.id);
            policy.is_in_force(now)
                && id.is_some_and(|id| id == cluster.id || cluster.aliases.contains(&id))
        })
    }

    /// Returns mode and actions of the routes that apply to a request. Each comes from the first
    /// route that has the setting, else from the general setting.
    fn route_disposition(&self, request: &RequestAttributes<'_>) -> Disposition {
        let routes = || self.routes.iter().filter(|route| route.applies_to(request));
        Disposition {
            mode: routes().find_map(|route| route.mode).unwrap_or(self.mode),
            actions: routes().find_map(|route| route.actions).unwrap_or(self.actions),
        }
    }
}

/// Returns the override for an account or tenant that is in force at the time `now`; `None` if the
/// policy has none, or without an id.
fn find_override<'p>(
    policies: &'p [PrincipalPolicy],
    id: Option<&str>,
    now: u64,
) -> Option<&'p PrincipalPolicy> {
    let id = id?;
    policies.iter().find(|policy| policy.id == id && policy.is_in_force(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::policy::{Actions, RoutePolicy, format_cluster_id};

    const PATH: &str = "/v1/messages";

    /// Returns the attributes of a request to [`PATH`] from an account of a tenant.
    fn request<'a>(account: Option<&'a str>, tenant: Option<&'a str>) -> RequestAttributes<'a> {
        RequestAttributes { path: PATH, account, tenant, ..RequestAttributes::default() }
    }

    fn cluster(id: u32, aliases: &[u32]) -> RequestCluster {
        RequestCluster { id, aliases: aliases.to_vec() }
    }

    fn treatment(id: u32, mode: Option<Mode>, suspect: Option<Action>) -> ClusterPolicy {
        let actions = suspect.map(|suspect| Actions { suspect, ..Actions::default() });
        ClusterPolicy { id: format_cluster_id(id), mode, actions, ..ClusterPolicy::default() }
    }

    fn principal(id: &str, mode: Mode, until: Option<u64>) -> PrincipalPolicy {
        PrincipalPolicy { id: id.into(), mode: Some(mode), until, ..PrincipalPolicy::default() }
    }

    #[test]
    fn account_overrides_tenant_overrides_route_overrides_default() {
        let actions = Actions { suspect: Action::Throttle, ..Actions::default() };
        let route = |path: &str, mode| RoutePolicy {
            path: Some(path.into()),
            mode,
            ..RoutePolicy::default()
        };
        let account =
            PrincipalPolicy { actions: Some(actions), ..principal("a", Mode::Shadow, None) };
        let tenant = principal("t", Mode::Enforce, None);
        let policy = Policy {
            routes: vec![route("/v1/chat/**", Some(Mode::Enforce))],
            accounts: vec![account],
            tenants: vec![tenant],
            ..Policy::default()
        };
        let chat = "/v1/chat/completions";
        let rows = [
            (PATH, None, None, Mode::Shadow),
            (chat, None, None, Mode::Enforce),
            (chat, Some("a"), None, Mode::Shadow),
            (PATH, None, Some("t"), Mode::Enforce),
            (PATH, Some("b"), Some("t"), Mode::Enforce),
            (PATH, Some("a"), Some("t"), Mode::Shadow),
            (PATH, Some("t"), Some("a"), Mode::Shadow),
        ];
        for (path, account, tenant, mode) in rows {
            let attributes = RequestAttributes { path, ..request(account, tenant) };
            let found = policy.disposition(&attributes);
            assert_eq!(found.mode, mode, "{path} {account:?} {tenant:?}");
            let is_account = account == Some("a");
            assert_eq!(found.actions, if is_account { actions } else { Actions::default() });
        }
    }

    /// Each row has a name, a change of a request, and the mode and the action in band suspect. The
    /// policy enforces one model on one host, and blocks one tenant's uploads.
    #[test]
    fn each_setting_comes_from_the_first_route_whose_conditions_all_hold() {
        let text = |text: &str| Some(text.to_owned());
        let actions = |suspect| Some(Actions { suspect, ..Actions::default() });
        let model_on_host = RoutePolicy {
            host: text("api.example.com"),
            model: text("claude-opus*"),
            mode: Some(Mode::Enforce),
            ..RoutePolicy::default()
        };
        let uploads_of_tenant = RoutePolicy {
            method: text("PUT"),
            tenant: text("t"),
            actions: actions(Action::Block),
            ..RoutePolicy::default()
        };
        let host = RoutePolicy {
            host: text("*.example.com"),
            mode: Some(Mode::Shadow),
            actions: actions(Action::Tag),
            ..RoutePolicy::default()
        };
        let policy =
            Policy { routes: vec![model_on_host, uploads_of_tenant, host], ..Policy::default() };
        let request = RequestAttributes {
            host: Some("API.example.com:443"),
            method: "POST",
            path: PATH,
            model: Some("Claude-Opus-4"),
            tenant: Some("t"),
            ..RequestAttributes::default()
        };
        type Attributes<'a> = RequestAttributes<'a>;
        let (enforce, shadow) = (Mode::Enforce, Mode::Shadow);
        let rows = [
            ("the model on the host", request, enforce, Action::Tag),
            ("a put", Attributes { method: "PUT", ..request }, enforce, Action::Block),
            ("another model", Attributes { model: Some("x"), ..request }, shadow, Action::Tag),
            ("an unknown model", Attributes { model: None, ..request }, shadow, Action::Tag),
            (
                "another host",
                Attributes { host: Some("b.example.com"), ..request },
                shadow,
                Action::Tag,
            ),
            ("an unknown host", Attributes { host: None, ..request }, shadow, Action::Degrade),
            (
                "a put of an unknown tenant",
                Attributes { method: "PUT", tenant: None, ..request },
                enforce,
                Action::Tag,
            ),
        ];
        for (name, request, mode, suspect) in rows {
            let found = policy.disposition(&request);
            assert_eq!((found.mode, found.actions.suspect), (mode, suspect), "{name}");
        }
    }

    /// Each override contradicts the one that comes next. The overrides are removed one after the
    /// other.
    #[test]
    fn account_then_tenant_then_strictest_of_cluster_and_first_route() {
        let route = |model: &str, mode| RoutePolicy {
            model: Some(model.to_owned()),
            mode: Some(mode),
            ..RoutePolicy::default()
        };
        let mut policy = Policy {
            mode: Mode::Enforce,
            accounts: vec![principal("a", Mode::Shadow, None)],
            tenants: vec![principal("t", Mode::Enforce, None)],
            clusters: vec![treatment(1, Some(Mode::Enforce), None)],
            routes: vec![route("m", Mode::Shadow), route("*", Mode::Enforce)],
            ..Policy::default()
        };
        let request = RequestAttributes { model: Some("m"), ..request(Some("a"), Some("t")) };
        let mode =
            |policy: &Policy| policy.disposition_in_clusters(&[cluster(1, &[])], &request).mode;
        assert_eq!(mode(&policy), Mode::Shadow, "the account");
        policy.accounts.clear();
        assert_eq!(mode(&policy), Mode::Enforce, "the tenant");
        policy.tenants[0].mode = Some(Mode::Shadow);
        assert_eq!(mode(&policy), Mode::Shadow, "the tenant is milder than the cluster");
        policy.tenants.clear();
        assert_eq!(mode(&policy), Mode::Enforce, "the cluster is stricter than the route");
        policy.clusters.clear();
        assert_eq!(mode(&policy), Mode::Shadow, "the first route");
        policy.routes.remove(0);
        policy.mode = Mode::Shadow;
        assert_eq!(mode(&policy), Mode::Enforce, "the second route");
        policy.routes.clear();
        assert_eq!(mode(&policy), Mode::Shadow, "the general mode");
    }

    #[test]
    fn an_override_has_no_effect_from_its_end_on() {
        let of_cluster =
            ClusterPolicy { until: Some(100), ..treatment(1, Some(Mode::Enforce), None) };
        let policies = [
            Policy {
                accounts: vec![principal("a", Mode::Enforce, Some(100))],
                ..Policy::default()
            },
            Policy { tenants: vec![principal("t", Mode::Enforce, Some(100))], ..Policy::default() },
            Policy { clusters: vec![of_cluster], ..Policy::default() },
        ];
        for policy in policies {
            for (now, mode) in [(0, Mode::Enforce), (99, Mode::Enforce), (100, Mode::Shadow)] {
                let request = RequestAttributes { now, ..request(Some("a"), Some("t")) };
                let found = policy.disposition_in_clusters(&[cluster(1, &[])], &request);
                assert_eq!(found.mode, mode, "{now}: {policy:?}");
            }
        }
    }

    /// Each row has a name, the cluster sections, the clusters of the request, the effect in band
    /// suspect, and the deciding cluster. The general setting is mode Shadow with `degrade`.
    #[test]
    fn the_strictest_treatment_of_all_clusters_applies() {
        use Action::{Allow, Block, Degrade, Throttle};
        let (shadow, enforce) = (Some(Mode::Shadow), Some(Mode::Enforce));
        let (one, two) = (cluster(1, &[]), cluster(2, &[8, 9]));
        let rows = [
            (
                "not named",
                vec![treatment(7, enforce, None)],
                vec![&one, &two],
                (Mode::Shadow, Degrade),
                1,
            ),
            (
                "mode",
                vec![treatment(2, enforce, None)],
                vec![&one, &two],
                (Mode::Enforce, Degrade),
                2,
            ),
            (
                "an alias",
                vec![treatment(9, enforce, Some(Block))],
                vec![&one, &two],
                (Mode::Enforce, Block),
                2,
            ),
            (
                "both",
                vec![treatment(1, enforce, Some(Throttle)), treatment(8, enforce, Some(Block))],
                vec![&one, &two],
                (Mode::Enforce, Block),
                2,
            ),
            (
                "carried out before recorded",
                vec![treatment(1, None, Some(Block)), treatment(2, enforce, None)],
                vec![&one, &two],
                (Mode::Enforce, Block),
                2,
            ),
            (
                "two sections of one cluster",
                vec![treatment(8, enforce, None), treatment(9, None, Some(Block))],
                vec![&two],
                (Mode::Enforce, Block),
                2,
            ),
            (
                "a milder section",
                vec![treatment(1, shadow, Some(Allow))],
                vec![&one],
                (Mode::Shadow, Degrade),
                1,
            ),
            (
                "milder and stricter",
                vec![treatment(1, shadow, Some(Allow)), treatment(2, enforce, None)],
                vec![&one, &two],
                (Mode::Enforce, Degrade),
                2,
            ),
        ];
        for (name, clusters, of_request, (mode, suspect), deciding) in rows {
            let policy = Policy { clusters, ..Policy::default() };
            let of_request: Vec<RequestCluster> = of_request.into_iter().cloned().collect();
            let attributes = request(None, None);
            let found = policy.disposition_in_clusters(&of_request, &attributes);
            assert_eq!((found.mode, found.actions.suspect), (mode, suspect), "{name}");
            let found = policy.deciding_cluster(&of_request, &attributes, Band::Suspect);
            assert_eq!(found.map(|cluster| cluster.id), Some(deciding), "{name}");
        }
    }

    #[test]
    fn a_cluster_eases_nothing_and_accounts_and_tenants_do() {
        let strict = Actions {
            clear: Action::Tag,
            notice: Action::Degrade,
            suspect: Action::Block,
            hostile: Action::Block,
        };
        let mild = ClusterPolicy {
            id: format_cluster_id(1),
            mode: Some(Mode::Shadow),
            actions: Some(Actions { suspect: Action::Allow, ..Actions::default() }),
            ..ClusterPolicy::default()
        };
        let policy = Policy {
            mode: Mode::Enforce,
            actions: strict,
            clusters: vec![mild, treatment(2, Some(Mode::Enforce), Some(Action::Block))],
            accounts: vec![principal("a", Mode::Shadow, None)],
            tenants: vec![principal("t", Mode::Shadow, None)],
            ..Policy::default()
        };
        let clusters = [cluster(1, &[]), cluster(2, &[])];
        let mode = |account, tenant| {
            let found = policy.disposition_in_clusters(&clusters, &request(account, tenant));
            assert_eq!(found.actions, strict);
            found.mode
        };
        assert_eq!(mode(None, None), Mode::Enforce);
        assert_eq!([mode(Some("a"), None), mode(None, Some("t"))], [Mode::Shadow; 2]);
    }

    fn any_action() -> impl Strategy<Value = Action> {
        use Action::{Allow, Block, Degrade, Tag, Throttle};
        prop::sample::select(vec![Allow, Tag, Degrade, Throttle, Block])
    }

    fn any_mode() -> impl Strategy<Value = Mode> {
        prop::sample::select(vec![Mode::Shadow, Mode::Enforce])
    }

    fn any_actions() -> impl Strategy<Value = Actions> {
        (any_action(), any_action(), any_action(), any_action()).prop_map(
            |(clear, notice, suspect, hostile)| Actions { clear, notice, suspect, hostile },
        )
    }

    proptest! {
        /// The order of clusters does not matter. A further cluster never makes the treatment
        /// milder, and no cluster makes it milder than the treatment of the route.
        #[test]
        fn clusters_only_tighten(
            (mode, actions) in (any_mode(), any_actions()),
            sections in prop::collection::vec(
                (1_u32..9, prop::option::of(any_mode()), prop::option::of(any_actions())), 0..8),
            ids in prop::sample::subsequence((1_u32..9).collect::<Vec<_>>(), 0..6).prop_shuffle(),
        ) {
            let clusters = sections.into_iter().map(|(id, mode, actions)| ClusterPolicy {
                id: format_cluster_id(id), mode, actions, ..ClusterPolicy::default()
            });
            let clusters = clusters.collect();
            let policy = Policy { mode, actions, clusters, ..Policy::default() };
            let of = |ids: &[u32]| {
                let clusters = ids.iter().map(|id| cluster(*id, &[]));
                let clusters: Vec<RequestCluster> = clusters.collect();
                policy.disposition_in_clusters(&clusters, &request(None, None))
            };
            let is_milder = |left: Disposition, right: Disposition| {
                left.mode < right.mode || left.actions.strictest(right.actions) != left.actions
            };
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            prop_assert_eq!(of(&ids), of(&sorted));
            prop_assert!(!is_milder(of(&ids), policy.disposition(&request(None, None))));
            for count in 1..=ids.len() {
                prop_assert!(!is_milder(of(&ids[..count]), of(&ids[..count - 1])));
            }
        }
    }
}
