//! Receipts, which a transcoder asks of the broadcaster.

use headwater_proto::{
    Checked, GetReceipts, JobId, Message, NoRouteReason, Receipts, ReceiptsWanted, RequestId,
    Roles, Signed, SigningKey,
};

use super::world::{ClaimPolicy, World, key};
use crate::{Command, CommandError, CommandId, Failure, Input, Question, Reply};

fn wanted(world: &World, transcoder: usize, from_segment: u64) -> Signed<ReceiptsWanted> {
    let wanted = ReceiptsWanted {
        stream: world.manifest(0).source(),
        job: JobId(1),
        transcoder: world.id(transcoder),
        from_segment,
    };
    Signed::sign(wanted, &world.hosts[transcoder].key)
}

fn ask(world: &mut World, transcoder: usize, from_segment: u64) -> CommandId {
    let body = wanted(world, transcoder, from_segment);
    world.command(transcoder, Command::GetReceipts { body })
}

fn segments(world: &World, host: usize, id: CommandId) -> Vec<u64> {
    let Ok(Reply::Receipts(list)) = &world.hosts[host].replies[&id] else {
        panic!("{:?}", world.hosts[host].replies[&id]);
    };
    let receipts = list.value().receipts.iter();
    receipts.map(|receipt| receipt.segment).collect()
}

fn is_request(message: &Message) -> bool {
    matches!(message, Message::GetReceipts(_))
}

#[test]
fn receipts_come_from_the_broadcaster_through_relays() {
    let mut world = World::line(2);

    let id = ask(&mut world, 3, 7);
    world.run(200);

    assert_eq!(segments(&world, 3, id), [7, 8, 9]);
    let body = wanted(&world, 3, 7);
    assert_eq!(world.hosts[0].asked, [Question::Receipts { body }]);
    assert_eq!(world.hosts[0].node.stats().receipts_asked, 1);
}

#[test]
fn a_link_to_the_broadcaster_itself_is_used_before_any_relay() {
    let mut world = World::star(1);
    world.connect(0, 2);

    let id = ask(&mut world, 2, 0);
    world.run(100);

    assert_eq!(segments(&world, 2, id), [0, 1, 2]);
    assert_eq!(world.sent(2, 1, is_request), 0);
}

#[test]
fn another_way_is_taken_when_a_relay_dies_with_the_request() {
    let mut world = World::diamond();
    world.freeze(1);

    let id = ask(&mut world, 3, 4);
    world.run(1500);

    assert_eq!(segments(&world, 3, id), [4, 5, 6]);
}

#[test]
fn who_never_held_the_job_gets_nothing_and_is_told_so() {
    let mut world = World::line(1);
    world.hosts[0].claims = ClaimPolicy::Refuse;

    let id = ask(&mut world, 2, 0);
    world.run(200);

    let refused = Err(CommandError::Failed(Failure::NotFound));
    assert_eq!(world.hosts[2].replies[&id], refused);
    assert_eq!(world.hosts[0].node.stats().receipts_refused, 1);
}

#[test]
fn a_request_in_the_name_of_another_never_gets_past_the_first_link() {
    let mut world = World::line(1);
    let forged = wanted(&world, 2, 0).value().clone();
    let body = Signed::sign(forged, &SigningKey::from_bytes(&[9; 32]));

    let id = world.command(2, Command::GetReceipts { body });
    world.run(5000);

    assert_eq!(world.hosts[0].asked, []);
    assert_eq!(world.hosts[1].node.stats().violations["bad signature"], 1);
    let late = Failure::NoRoute(NoRouteReason::Timeout);
    assert_eq!(world.hosts[2].replies[&id], Err(CommandError::Failed(late)));
}

#[test]
fn an_answer_to_an_earlier_request_is_no_answer_to_this_one() {
    let mut world = World::line(1);
    world.hosts[0].swallows = Some(|message| matches!(message, Message::Receipts(_)));
    ask(&mut world, 2, 0);
    world.run(100);
    let sent = |world: &World, host: usize| {
        let all = world.hosts[host].sent.iter().rev();
        let mut requests = all.filter_map(|(_, message)| match message {
            Message::GetReceipts(get) => Some(get.request),
            _ => None,
        });
        requests.next().unwrap()
    };
    let old = world.hosts[0].sent.iter().find_map(|(_, m)| match m {
        Message::Receipts(receipts) => Some(receipts.body.clone()),
        _ => None,
    });

    let id = ask(&mut world, 2, 3);
    world.run(100);
    let request = sent(&world, 1);
    let body = old.unwrap();
    let message = Checked::assume(Message::Receipts(Receipts { request, body }));
    let from = world.id(0);
    world.input(1, Input::Received { from, message });
    world.run(100);

    assert!(!world.hosts[2].replies.contains_key(&id));
    let violations = &world.hosts[1].node.stats().violations;
    assert_eq!(violations["answer to another question"], 1);
}

#[test]
fn a_request_that_is_replayed_makes_the_broadcaster_send_little() {
    let mut world = World::line(1);
    let thief = world.add(key(222), Roles::default());
    world.connect(0, thief);
    world.freeze(thief);
    let body = wanted(&world, 2, 7);
    for number in 0..100 {
        let replayed = GetReceipts {
            request: RequestId(number),
            hops_left: 9,
            body: body.clone(),
        };
        world.arrive(thief, 0, &Message::GetReceipts(replayed));
    }
    let other = world.add(key(223), Roles::default());
    world.connect(1, other);
    let id = ask(&mut world, other, 7);
    world.run(1100);

    let lists = world.sent(0, thief, |m| matches!(m, Message::Receipts(_)));
    assert_eq!(lists, 16);
    let refusals = world.sent(0, thief, |m| matches!(m, Message::NoRoute(_)));
    assert_eq!(refusals, 84);
    assert_eq!(
        segments(&world, other, id),
        [7, 8, 9],
        "another's do not wait"
    );
    let id = ask(&mut world, 2, 7);
    world.run(200);
    assert_eq!(segments(&world, 2, id), [7, 8, 9], "a second later");
}
