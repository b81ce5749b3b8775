// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Terms, Transcoder} from "./Types.sol";
import {Balances} from "./Balances.sol";
import {Rules} from "./Rules.sol";

/// Who may be elected, and the election.
///
/// Seats are kept in ascending order of address, the order of the election's rule. An election looks at terms
/// as they were before the block that seeds it, so nobody who knows the seed can still change its outcome:
/// each seat keeps its terms before the last change, and changes them at most once in `HASH_BLOCKS` blocks, the
/// life of a seed.
abstract contract Registry is Balances, Rules {
    event Registered(address indexed transcoder, bytes32 indexed node, uint128 price, uint128 stake, string[] profiles);
    event Unregistered(address indexed transcoder, uint64 unbondsAt, bool displaced);
    event StakeReleased(address indexed transcoder, uint128 amount);
    event StakeSlashed(address indexed transcoder, uint128 penalty, uint128 stake, bool active);

    error NoNode();
    error StakeTooLow(uint256 needed);
    error ChangedTooRecently(uint256 changeableAt);
    error NotRegistered();
    error SeatsTaken(uint256 neededStake);
    error StillBonded(uint256 unbondsAt, uint256 openClaims);

    /// How many can be elected at a time. With it an election's work is bounded: it is linear, because candidates
    /// are chosen by price *and* drawn by stake in order of address, which no sum tree answers in less.
    uint256 public constant MAX_ACTIVE = 64;
    /// Seats, with those who left and may still be elected by an older seed.
    uint256 public constant MAX_SEATS = 80;

    /// How many take part in elections from now on.
    uint256 public activeCount;
    address[] internal _seats;
    mapping(address account => Transcoder) internal _transcoders;

    /// Registers the sender or changes its terms; what is sent is added to its stake. Takes effect for seeds of
    /// later blocks. `profiles` are what it offers; they take no part in elections.
    function register(bytes32 node, uint128 price, string[] calldata profiles) external payable {
        if (node == 0) revert NoNode();
        _checkProfiles(profiles);
        Transcoder storage t = _transcoders[msg.sender];
        uint128 stake = _narrow(uint256(t.bonded) + msg.value);
        if (stake < MIN_STAKE) revert StakeTooLow(MIN_STAKE);
        if (t.terms.stake != stake || t.terms.price != price) {
            _checkChangeable(t);
            if (t.terms.stake == 0) _activate(msg.sender, stake);
            _change(t, Terms(stake, price));
        }
        t.bonded = stake;
        t.node = node;
        emit Registered(msg.sender, node, price, stake, profiles);
    }

    /// Takes the sender out of elections whose seed is not yet mined. Jobs it holds stay with it.
    function unregister() external {
        Transcoder storage t = _transcoders[msg.sender];
        if (t.terms.stake == 0) revert NotRegistered();
        _checkChangeable(t);
        _leave(msg.sender, false);
    }

    /// Credits the stake of one who left, when it is bonded no longer and all its claims are settled.
    function releaseStake() external {
        Transcoder storage t = _transcoders[msg.sender];
        if (t.terms.stake > 0 || block.number < t.unbondsAt || t.openClaims > 0) {
            revert StillBonded(t.unbondsAt, t.openClaims);
        }
        uint128 amount = t.bonded;
        if (amount == 0) revert NotRegistered();
        t.bonded = 0;
        emit StakeReleased(msg.sender, amount);
        _credit(msg.sender, amount);
    }

    function transcoderOf(address account) external view returns (Transcoder memory) {
        return _transcoders[account];
    }

    /// All seats in order of address, with those who left lately.
    function seats() external view returns (address[] memory) {
        return _seats;
    }

    /// Who a seed elects: the one rule, the same as the job book's.
    ///
    /// Candidates are the seats with stake above zero and price at most `maxPrice`, as of just before
    /// `seedBlock`, without `excluded`, in ascending order of address.
    /// `r = uint256(keccak256(seed ‖ uint32(round))) mod (sum of stakes)`; the winner is the first for which the
    /// stakes up to and including its own exceed `r`. Zero when there is no candidate.
    function elect(bytes32 seed, uint32 round, uint128 maxPrice, uint256 seedBlock, address[] memory excluded)
        public
        view
        returns (address winner, uint128 price)
    {
        uint256 length = _seats.length;
        address[] memory accounts = new address[](length);
        Terms[] memory terms = new Terms[](length);
        uint256 count = 0;
        uint256 total = 0;
        for (uint256 n = 0; n < length; ++n) {
            address account = _seats[n];
            Transcoder storage t = _transcoders[account];
            Terms memory then = t.changedAt < seedBlock ? t.terms : t.termsBefore;
            if (then.stake == 0 || then.price > maxPrice || _contains(excluded, account)) continue;
            accounts[count] = account;
            terms[count] = then;
            total += then.stake;
            ++count;
        }
        if (total == 0) return (address(0), 0);
        uint256 left = uint256(keccak256(abi.encodePacked(seed, round))) % total;
        uint256 place = 0;
        while (left >= terms[place].stake) {
            left -= terms[place].stake;
            ++place;
        }
        return (accounts[place], terms[place].price);
    }

    /// Takes a part of a stake for good. Takes effect at once, for older seeds too: nobody gains by being slashed.
    function _takeStake(address account, uint128 penalty) internal {
        Transcoder storage t = _transcoders[account];
        t.bonded -= penalty;
        bool active = t.terms.stake > 0;
        if (active && t.bonded >= MIN_STAKE) {
            t.terms.stake = t.bonded;
            if (t.termsBefore.stake > t.bonded) t.termsBefore.stake = t.bonded;
        } else {
            if (active) {
                --activeCount;
                t.unbondsAt = uint64(block.number + UNBOND_BLOCKS);
            }
            active = false;
            _change(t, Terms(0, 0));
            t.termsBefore = Terms(0, 0);
            if (t.seated) _removeSeat(account);
        }
        emit StakeSlashed(account, penalty, t.bonded, active);
    }

    function _checkChangeable(Transcoder storage t) private view {
        uint256 place = t.changedAt == 0 ? 0 : uint256(t.changedAt) + HASH_BLOCKS + 1;
        if (block.number < place) revert ChangedTooRecently(place);
    }

    function _change(Transcoder storage t, Terms memory terms) private {
        t.termsBefore = t.terms;
        t.terms = terms;
        t.changedAt = uint64(block.number);
    }

    function _leave(address account, bool displaced) private {
        Transcoder storage t = _transcoders[account];
        _change(t, Terms(0, 0));
        t.unbondsAt = uint64(block.number + UNBOND_BLOCKS);
        --activeCount;
        emit Unregistered(account, t.unbondsAt, displaced);
    }

    /// Gives a seat to one who has none or a left one. When all are taken the one with the least stake leaves,
    /// if that is less; those whose terms changed within the life of a seed cannot be displaced.
    function _activate(address account, uint128 stake) private {
        if (_seats.length >= MAX_ACTIVE) _makeRoom(account, stake);
        ++activeCount;
        Transcoder storage t = _transcoders[account];
        if (t.seated) return;
        t.seated = true;
        _seats.push(account);
        uint256 place = _seats.length - 1;
        while (place > 0 && _seats[place - 1] > account) {
            _seats[place] = _seats[place - 1];
            --place;
        }
        _seats[place] = account;
    }

    function _makeRoom(address account, uint128 stake) private {
        address lowest = address(0);
        uint128 least = type(uint128).max;
        address vacant = address(0);
        uint256 length = _seats.length;
        for (uint256 n = 0; n < length; ++n) {
            address seat = _seats[n];
            Transcoder storage t = _transcoders[seat];
            if (seat == account || block.number <= uint256(t.changedAt) + HASH_BLOCKS) continue;
            if (t.terms.stake == 0) {
                vacant = seat;
            } else if (t.terms.stake < least) {
                (lowest, least) = (seat, t.terms.stake);
            }
        }
        if (activeCount == MAX_ACTIVE) {
            if (stake <= least) revert SeatsTaken(uint256(least) + 1);
            _leave(lowest, true);
        }
        if (vacant != address(0)) {
            _removeSeat(vacant);
        } else if (length == MAX_SEATS && !_transcoders[account].seated) {
            revert SeatsTaken(type(uint256).max);
        }
    }

    function _removeSeat(address account) private {
        _transcoders[account].seated = false;
        uint256 last = _seats.length - 1;
        uint256 place = 0;
        while (_seats[place] != account) ++place;
        for (; place < last; ++place) _seats[place] = _seats[place + 1];
        _seats.pop();
    }

    function _contains(address[] memory list, address account) private pure returns (bool) {
        for (uint256 n = 0; n < list.length; ++n) {
            if (list[n] == account) return true;
        }
        return false;
    }
}
