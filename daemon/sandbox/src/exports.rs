//! The component's exports: which there are, and a call of one of them in a fresh instance.

use crate::bindings::exports::windlass::plugin::{capacity, controller, driver, listing, modification, node, publishing, snapshot_listing, snapshots};
use crate::bindings::windlass::plugin::types::Refusal;
use crate::call::Call;
use crate::{from_wit, to_wit};
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};
use windlass_plan::plugin::{CallFailure, PluginAnswer, PluginCall};

/// A component that was loaded and linked.
pub(crate) struct Exports {
    component: InstancePre<Call>,
    driver: driver::GuestIndices,
    node: Option<node::GuestIndices>,
    controller: Option<controller::GuestIndices>,
    listing: Option<listing::GuestIndices>,
    capacity: Option<capacity::GuestIndices>,
    publishing: Option<publishing::GuestIndices>,
    modification: Option<modification::GuestIndices>,
    snapshots: Option<snapshots::GuestIndices>,
    snapshot_listing: Option<snapshot_listing::GuestIndices>,
}

/// The inner error is the plugin's, the outer one wasmtime's.
type Answered = wasmtime::Result<Result<PluginAnswer, CallFailure>>;

impl Exports {
    /// Finds the exports and compares their types. A group that is not there at all is no error; one that differs is.
    pub(crate) fn find(component: InstancePre<Call>) -> wasmtime::Result<Self> {
        let has = |name: &str| component.component().get_export_index(None, format!("windlass:plugin/{name}@0.1.0").as_str()).is_some();
        Ok(Self {
            driver: driver::GuestIndices::new(&component)?,
            node: has("node").then(|| node::GuestIndices::new(&component)).transpose()?,
            controller: has("controller").then(|| controller::GuestIndices::new(&component)).transpose()?,
            listing: has("listing").then(|| listing::GuestIndices::new(&component)).transpose()?,
            capacity: has("capacity").then(|| capacity::GuestIndices::new(&component)).transpose()?,
            publishing: has("publishing").then(|| publishing::GuestIndices::new(&component)).transpose()?,
            modification: has("modification").then(|| modification::GuestIndices::new(&component)).transpose()?,
            snapshots: has("snapshots").then(|| snapshots::GuestIndices::new(&component)).transpose()?,
            snapshot_listing: has("snapshot-listing").then(|| snapshot_listing::GuestIndices::new(&component)).transpose()?,
            component,
        })
    }

    /// Instantiates, and looks every export up: what pre-linking does not find, this does.
    pub(crate) fn try_out(&self, store: &mut Store<Call>) -> wasmtime::Result<()> {
        let instance = self.component.instantiate(&mut *store)?;
        self.driver.load(&mut *store, &instance)?;
        self.node.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.controller.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.listing.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.capacity.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.publishing.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.modification.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.snapshots.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        self.snapshot_listing.as_ref().map(|group| group.load(&mut *store, &instance)).transpose()?;
        Ok(())
    }

    /// An instance for one call. What the component does when it starts is done here.
    pub(crate) fn instantiate(&self, store: &mut Store<Call>) -> wasmtime::Result<Instance> {
        self.component.instantiate(store)
    }

    /// Calls an export of this instance, or of one that is made for it now.
    pub(crate) fn call(&self, store: &mut Store<Call>, instance: Option<Instance>, call: PluginCall) -> Result<PluginAnswer, CallFailure> {
        let instance = instance.map_or_else(|| self.instantiate(store), Ok);
        let answered = instance.and_then(|instance| self.answer(store, &instance, call));
        match answered {
            Ok(answer) => {
                store.data_mut().flush_output();
                answer
            }
            Err(error) => Err(store.data_mut().failure(&error)),
        }
    }

    fn answer(&self, store: &mut Store<Call>, instance: &Instance, call: PluginCall) -> Answered {
        let s = &mut *store;
        /// Looks a group up, which a component need not have.
        macro_rules! group {
            ($name:ident) => {{
                let Some(group) = &self.$name else { return Ok(Err(CallFailure::NotExported)) };
                group.load(&mut *s, instance)?
            }};
        }
        Ok(match call {
            PluginCall::Describe => {
                let driver = self.driver.load(&mut *s, instance)?;
                Ok(PluginAnswer::Described(from_wit::description(driver.call_describe(s)?)))
            }
            PluginCall::Probe => said(self.driver.load(&mut *s, instance)?.call_probe(s)?, |ready| Ok(PluginAnswer::Ready(ready))),
            PluginCall::Attach(facts) => said(group!(node).call_attach(s, &to_wit::volume_facts(facts))?, |plan| from_wit::plan(plan).map(PluginAnswer::Plan)),
            PluginCall::NodeInfo(facts) => {
                said(group!(node).call_node_info(s, &to_wit::node_facts(facts))?, |info| from_wit::node_info(info).map(PluginAnswer::NodeInfo))
            }
            PluginCall::ListVolumes { max_entries, starting_token } => said(group!(listing).call_list_volumes(s, max_entries, &starting_token)?, |page| {
                let entries = page.volumes.into_iter().map(from_wit::volume).collect::<Result<_, _>>()?;
                Ok(PluginAnswer::Volumes { entries, next_token: page.next_token })
            }),
            PluginCall::Capacity(facts) => {
                said(group!(capacity).call_room_for(s, &to_wit::capacity_facts(facts))?, |room| Ok(PluginAnswer::Capacity(from_wit::room(room))))
            }
            PluginCall::Modify { volume, parameters } => {
                said(group!(modification).call_modify_volume(s, &volume, &to_wit::context(parameters))?, |()| Ok(PluginAnswer::Modified))
            }
            PluginCall::CreateSnapshot(facts) => said(group!(snapshots).call_create_snapshot(s, &to_wit::snapshot_facts(facts))?, |snapshot| {
                Ok(PluginAnswer::Snapshot(from_wit::snapshot(snapshot)))
            }),
            PluginCall::DeleteSnapshot { snapshot } => said(group!(snapshots).call_delete_snapshot(s, &snapshot)?, |()| Ok(PluginAnswer::Deleted)),
            PluginCall::ListSnapshots { snapshot, volume, max_entries, starting_token } => {
                let filter = snapshot_listing::SnapshotFilter { snapshot, volume };
                said(group!(snapshot_listing).call_list_snapshots(s, &filter, max_entries, &starting_token)?, |page| {
                    Ok(PluginAnswer::Snapshots { entries: page.snapshots.into_iter().map(from_wit::listed_snapshot).collect(), next_token: page.next_token })
                })
            }
            PluginCall::Publish(facts) => said(group!(publishing).call_publish(s, &to_wit::publish_facts(facts))?, |told| {
                from_wit::context(told, "the publish_context").map(PluginAnswer::Published)
            }),
            PluginCall::Unpublish { volume, node } => said(group!(publishing).call_unpublish(s, &volume, node.as_deref())?, |()| Ok(PluginAnswer::Unpublished)),
            PluginCall::CreateVolume(facts) => {
                said(group!(controller).call_create_volume(s, &to_wit::create_facts(facts))?, |volume| from_wit::volume(volume).map(PluginAnswer::Volume))
            }
            PluginCall::DeleteVolume { volume } => said(group!(controller).call_delete_volume(s, &volume)?, |()| Ok(PluginAnswer::Deleted)),
            PluginCall::Validate(facts) => {
                said(group!(controller).call_validate(s, &to_wit::validate_facts(facts))?, |why_not| Ok(PluginAnswer::Validated(why_not)))
            }
            PluginCall::Expand { volume, capacity } => said(group!(controller).call_expand(s, &volume, to_wit::capacity_range(capacity))?, |grown| {
                Ok(PluginAnswer::Expanded(from_wit::expanded(grown)))
            }),
        })
    }
}

fn said<T>(result: Result<T, Refusal>, read: impl FnOnce(T) -> Result<PluginAnswer, from_wit::Malformed>) -> Result<PluginAnswer, CallFailure> {
    let answer = result.map_err(|refusal| CallFailure::Refused(from_wit::refusal(refusal)))?;
    read(answer).map_err(|malformed| CallFailure::Limit(malformed.to_string()))
}
