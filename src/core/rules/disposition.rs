//! The disposition: mode and actions of a request, by account, tenant, clusters and route.
//!
//! Clients can choose the clusters that they belong to: they can send the template of a cluster, or
//! merge two clusters by sending one template from an account of each. So a policy section for a
//! cluster can only make the treatment stricter, even if its settings are milder. Only sections for
//! accounts and tenants, which clients cannot choose, make the treatment milder.

use crate::http::route;
use crate::rules::policy::{
    Action, Band, ClusterPolicy, Disposition, Mode, Policy, RequestCluster, parse_cluster_id,
};

impl Policy {
    /// Returns mode and actions for a request without a cluster. For each of the two settings, the
    /// account overrides the tenant, the tenant the route, and the route the general setting.
    pub fn disposition(
        &self,
        path: &str,
        account: Option<&str>,
        tenant: Option<&str>,
    ) -> Disposition {
        self.disposition_in_clusters(&[], path, account, tenant)
    }

    /// Returns mode and actions for a request in some clusters. For each of the two settings, the
    /// account overrides the tenant. If neither has the setting, the strictest value of the
    /// clusters and the route applies; actions are compared per band.
    pub fn disposition_in_clusters<'c>(
        &self,
        clusters: impl IntoIterator<Item = &'c RequestCluster>,
        path: &str,
        account: Option<&str>,
        tenant: Option<&str>,
    ) -> Disposition {
        let account = self.accounts.iter().find(|policy| account == Some(policy.id.as_str()));
        let tenant = self.tenants.iter().find(|policy| tenant == Some(policy.id.as_str()));
        let mut disposition = self.route_disposition(path);
        for policy in clusters.into_iter().flat_map(|cluster| self.policies_of(cluster)) {
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
        path: &str,
        (account, tenant): (Option<&str>, Option<&str>),
        band: Band,
    ) -> Option<&'c RequestCluster> {
        let severity = |cluster: &RequestCluster| {
            let Disposition { mode, actions } =
                self.disposition_in_clusters([cluster], path, account, tenant);
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

    /// Returns the policy sections that name a cluster by its id or by an alias.
    fn policies_of(&self, cluster: &RequestCluster) -> impl Iterator<Item = &ClusterPolicy> {
        self.clusters.iter().filter(|policy| {
            parse_cluster_id(&policy.id)
                .is_some_and(|id| id == cluster.id || cluster.aliases.contains(&id))
        })
    }

    /// Returns mode and actions of a path. Each comes from the first matching route that has the
    /// setting, else from the general setting.
    fn route_disposition(&self, path: &str) -> Disposition {
        let routes = || self.routes.iter().filter(|route| route::path_matches(&route.path, path));
        Disposition {
            mode: routes().find_map(|route| route.mode).unwrap_or(self.mode),
            actions: routes().find_map(|route| route.actions).unwrap_or(self.actions),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::policy::{Actions, PrincipalPolicy, RoutePolicy, format_cluster_id};

    const PATH: &str = "/v1/messages";

    fn cluster(id: u32, aliases: &[u32]) -> RequestCluster {
        RequestCluster { id, aliases: aliases.to_vec() }
    }

    fn treatment(id: u32, mode: Option<Mode>, suspect: Option<Action>) -> ClusterPolicy {
        let actions = suspect.map(|suspect| Actions { suspect, ..Actions::default() });
        ClusterPolicy { id: format_cluster_id(id), mode, actions }
    }

    #[test]
    fn account_overrides_tenant_overrides_route_overrides_default() {
        let actions = Actions { suspect: Action::Throttle, ..Actions::default() };
        let route = |path: &str, mode| RoutePolicy {
            path: path.into(),
            endpoint: None,
            mode,
            actions: None,
        };
        let account =
            PrincipalPolicy { id: "a".into(), mode: Some(Mode::Shadow), actions: Some(actions) };
        let tenant = PrincipalPolicy { id: "t".into(), mode: Some(Mode::Enforce), actions: None };
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
            let found = policy.disposition(path, account, tenant);
            assert_eq!(found.mode, mode, "{path} {account:?} {tenant:?}");
            let is_account = account == Some("a");
            assert_eq!(found.actions, if is_account { actions } else { Actions::default() });
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
            let found = policy.disposition_in_clusters(&of_request, PATH, None, None);
            assert_eq!((found.mode, found.actions.suspect), (mode, suspect), "{name}");
            let owner = (None, None);
            let found = policy.deciding_cluster(&of_request, PATH, owner, Band::Suspect);
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
        };
        let policy = Policy {
            mode: Mode::Enforce,
            actions: strict,
            clusters: vec![mild, treatment(2, Some(Mode::Enforce), Some(Action::Block))],
            accounts: vec![PrincipalPolicy {
                id: "a".into(),
                mode: Some(Mode::Shadow),
                actions: None,
            }],
            tenants: vec![PrincipalPolicy {
                id: "t".into(),
                mode: Some(Mode::Shadow),
                actions: None,
            }],
            ..Policy::default()
        };
        let clusters = [cluster(1, &[]), cluster(2, &[])];
        let mode = |account, tenant| {
            let found = policy.disposition_in_clusters(&clusters, PATH, account, tenant);
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
                id: format_cluster_id(id), mode, actions,
            });
            let clusters = clusters.collect();
            let policy = Policy { mode, actions, clusters, ..Policy::default() };
            let of = |ids: &[u32]| {
                let clusters = ids.iter().map(|id| cluster(*id, &[]));
                let clusters: Vec<RequestCluster> = clusters.collect();
                policy.disposition_in_clusters(&clusters, PATH, None, None)
            };
            let is_milder = |left: Disposition, right: Disposition| {
                left.mode < right.mode || left.actions.strictest(right.actions) != left.actions
            };
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            prop_assert_eq!(of(&ids), of(&sorted));
            prop_assert!(!is_milder(of(&ids), policy.disposition(PATH, None, None)));
            for count in 1..=ids.len() {
                prop_assert!(!is_milder(of(&ids[..count]), of(&ids[..count - 1])));
            }
        }
    }
}
