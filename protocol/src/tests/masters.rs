//! Master playlists, statuses and probes across the network.

use headwater_proto::{JobId, MasterPlaylistData, Message, NoRouteReason, RenditionName};

use super::world::{World, key};
use crate::{Command, CommandError, Failure, Question, Reply};

fn follow(world: &mut World, host: usize) {
    let manifest = world.manifest(0);
    world.must(host, Command::FollowMaster { manifest });
}

fn versions(world: &World, host: usize) -> Vec<u64> {
    let all = world.hosts[host].masters.iter();
    all.map(|body| body.value().version).collect()
}

fn is_get(message: &Message) -> bool {
    matches!(message, Message::GetMasterPlaylist(_))
}

#[test]
fn changes_reach_every_follower_through_relays() {
    let mut world = World::line(2);
    world.set_master(1);
    follow(&mut world, 3);
    world.run(200);

    world.set_master(2);
    world.run(100);
    world.set_master(5);
    world.run(100);

    assert_eq!(versions(&world, 3), [1, 2, 5]);
}

#[test]
fn a_relay_asks_once_for_all_its_followers() {
    let mut world = World::star(3);
    world.set_master(1);
    for viewer in 2..5 {
        follow(&mut world, viewer);
        world.run(100);
    }

    world.set_master(2);
    world.run(100);

    for viewer in 2..5 {
        assert_eq!(versions(&world, viewer), [1, 2]);
    }
    assert_eq!(world.sent(1, 0, is_get), 1);
}

#[test]
fn a_lease_is_renewed_while_somebody_follows_and_ends_after() {
    let mut world = World::line(1);
    world.set_master(1);
    follow(&mut world, 2);
    world.run(60_000);
    world.set_master(2);
    world.run(100);
    assert_eq!(versions(&world, 2), [1, 2]);

    let manifest = world.manifest(0);
    world.must(2, Command::UnfollowMaster { manifest });
    world.run(40_000);
    let asked = world.sent(1, 0, is_get);
    world.run(60_000);
    world.set_master(3);
    world.run(100);

    assert_eq!(world.sent(1, 0, is_get), asked);
    assert_eq!(versions(&world, 2), [1, 2]);
}

#[test]
fn a_master_that_does_not_exist_yet_is_waited_for() {
    let mut world = World::line(1);
    follow(&mut world, 2);
    world.run(3000);
    assert_eq!(world.hosts[2].missing, [Failure::NotFound]);

    world.set_master(1);
    world.run(2600);

    assert_eq!(versions(&world, 2), [1]);
}

#[test]
fn a_follower_goes_on_by_another_relay() {
    let mut world = World::diamond();
    world.set_master(1);
    follow(&mut world, 3);
    world.run(200);

    let used = if world.sent(3, 1, is_get) > 0 { 1 } else { 2 };
    world.kill(used);
    world.run(200);
    world.set_master(2);
    world.run(200);

    assert_eq!(versions(&world, 3), [1, 2]);
}

#[test]
fn a_replayed_master_is_dropped() {
    let mut world = World::pair();
    let old = world.master(1);
    world.set_master(1);
    follow(&mut world, 1);
    world.run(100);
    world.set_master(2);
    world.run(100);

    let request = world.hosts[1].sent.iter().find_map(|(_, m)| match m {
        Message::GetMasterPlaylist(get) => Some(get.request),
        _ => None,
    });
    let data = MasterPlaylistData {
        request: request.unwrap(),
        body: old,
    };
    world.arrive(0, 1, &Message::MasterPlaylistData(data));

    assert_eq!(versions(&world, 1), [1, 2]);
    assert_eq!(world.hosts[1].node.stats().stale_masters, 1);
}

#[test]
fn the_owner_can_follow_its_own_master() {
    let mut world = World::new(0, 0);
    follow(&mut world, 0);
    world.set_master(1);
    world.set_master(2);

    assert_eq!(versions(&world, 0), [1, 2]);
    let body = world.master(2);
    let refused = world.refused(0, Command::SetMaster { body });
    assert_eq!(refused, CommandError::StaleMaster);
}

#[test]
fn the_status_of_a_remote_node_comes_back_through_relays() {
    let mut world = World::line(2);
    let node = world.id(0);

    let id = world.command(3, Command::RequestStatus { node });
    world.run(200);

    let Ok(Reply::Status(body)) = &world.hosts[3].replies[&id] else {
        panic!("{:?}", world.hosts[3].replies);
    };
    assert_eq!(body.value().node, node);
}

#[test]
fn a_node_answers_for_itself() {
    let mut world = World::new(0, 0);
    let node = world.id(0);

    let id = world.command(0, Command::RequestStatus { node });
    world.run(10);

    assert!(matches!(world.hosts[0].replies[&id], Ok(Reply::Status(_))));
}

#[test]
fn a_probe_asks_the_transcoder_itself() {
    let mut world = World::line(2);
    let stream = world.manifest(3).source();
    let transcoder = world.id(0);
    let renditions: Vec<RenditionName> = vec!["720p".parse().unwrap()];

    let command = Command::Probe {
        transcoder,
        stream: stream.clone(),
        renditions: renditions.clone(),
    };
    let id = world.command(3, command);
    world.run(200);

    let reply = &world.hosts[3].replies[&id];
    assert!(matches!(
        reply,
        Ok(Reply::Probe {
            available: true,
            ..
        })
    ));
    assert_eq!(
        world.hosts[0].asked,
        [Question::Probe { stream, renditions }]
    );
}

#[test]
fn a_request_to_a_node_nobody_knows_is_answered_with_no_route() {
    let mut world = World::line(2);
    let node = key(200).node_id();

    let id = world.command(3, Command::RequestStatus { node });
    world.run(4100);

    let no_route = Failure::NoRoute(NoRouteReason::NoCloserPeer);
    assert_eq!(
        world.hosts[3].replies[&id],
        Err(CommandError::Failed(no_route))
    );
}

#[test]
fn a_request_asks_an_alternate_when_a_neighbour_is_silent() {
    let mut world = World::diamond();
    let node = world.id(0);
    // The relay nearest to the target is asked first.
    world.freeze(1);

    let id = world.command(3, Command::RequestStatus { node });
    world.run(1000);
    assert!(!world.hosts[3].replies.contains_key(&id));
    world.run(400);

    assert!(matches!(world.hosts[3].replies[&id], Ok(Reply::Status(_))));
}

#[test]
fn a_request_that_nobody_answers_times_out() {
    let mut world = World::line(1);
    world.freeze(1);

    let node = world.id(0);
    let id = world.command(2, Command::RequestStatus { node });
    world.run(4100);

    let late = Failure::NoRoute(NoRouteReason::Timeout);
    assert_eq!(world.hosts[2].replies[&id], Err(CommandError::Failed(late)));
    assert_eq!(world.hosts[2].node.open_requests(), 0);
}

#[test]
fn a_request_without_neighbours_fails_at_once() {
    let mut world = World::new(0, 0);
    let node = key(200).node_id();

    let id = world.command(0, Command::RequestStatus { node });

    let nobody = CommandError::Failed(Failure::NoPeers);
    assert_eq!(world.hosts[0].replies[&id], Err(nobody));
}

#[test]
fn too_many_requests_of_one_neighbour_are_turned_away() {
    let mut world = World::new(1, 1);
    world.reconfigure(1, |config| config.max_requests_per_peer = 4);
    world.connect(0, 1);
    world.connect(1, 2);
    world.freeze(0);
    let node = world.id(0);

    for _ in 0..10 {
        world.command(2, Command::RequestStatus { node });
    }
    world.run(100);

    let busy = Err(CommandError::Failed(Failure::NoRoute(
        NoRouteReason::Overloaded,
    )));
    let refused = world.hosts[2].replies.values().filter(|r| **r == busy);
    assert_eq!(refused.count(), 6);
    assert_eq!(world.hosts[1].node.open_requests(), 4);
}

#[test]
fn jobs_are_unknown_until_they_are_started() {
    let mut world = World::new(0, 0);
    let refused = world.refused(0, Command::StopJob { job: JobId(7) });
    assert_eq!(refused, CommandError::UnknownJob(JobId(7)));
}
