// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EndReason, Holding, Job, JobState} from "./Types.sol";
import {Registry} from "./Registry.sol";

/// A job's life: created, assigned, acknowledged, given to another, ended.
abstract contract Jobs is Registry {
    event JobCreated(
        uint256 indexed jobId,
        address indexed broadcaster,
        bytes32 indexed streamHash,
        string streamId,
        string[] profiles,
        uint128 maxPricePerSegment,
        uint128 reserved,
        uint64 expiresAt
    );
    /// The hash of `seedBlock`, which is not mined yet, will elect.
    event SeedChosen(uint256 indexed jobId, uint64 seedBlock);
    event JobAssigned(
        uint256 indexed jobId,
        address indexed transcoder,
        bytes32 indexed node,
        uint128 price,
        uint32 round,
        uint64 seedBlock,
        bytes32 seed
    );
    event JobAcknowledged(uint256 indexed jobId, address indexed transcoder);
    event JobUnassigned(uint256 indexed jobId, address indexed transcoder, address by);
    event JobExtended(uint256 indexed jobId, uint128 added, uint128 reserved, uint64 expiresAt);
    event JobEnded(uint256 indexed jobId, EndReason reason);
    event ReserveReleased(uint256 indexed jobId, uint128 amount);

    error UnknownJob();
    error WrongState(JobState state);
    error NotBroadcaster();
    error NotHolder();
    error StreamHasJob(uint256 jobId);
    error SeedNotMined(uint256 seedBlock);
    error JobExpired();
    error JobNotExpired(uint256 expiresAt);
    error AckPending(uint256 until);
    error TooManyRounds();
    error TooManySegments();
    error ReserveHeld(uint256 until);

    /// How often a job may be taken from its holder.
    uint256 public constant MAX_EXCLUDED = 16;

    /// How many jobs were ever created; their numbers start at 1.
    uint256 public jobCount;
    mapping(uint256 jobId => Job) internal _jobs;
    mapping(uint256 jobId => address[]) private _excluded;
    mapping(uint256 jobId => mapping(address account => Holding)) internal _holdings;
    mapping(address broadcaster => mapping(bytes32 streamHash => uint256)) private _liveJob;

    /// Creates a job and sets aside `settings().reserveSegments` times the highest price of the sender's balance.
    /// A stream of the sender has at most one job that has not ended.
    function createJob(string calldata streamId, string[] calldata profiles, uint128 maxPricePerSegment)
        external
        returns (uint256 jobId)
    {
        if (bytes(streamId).length == 0) revert NoStream();
        if (bytes(streamId).length > MAX_STREAM_BYTES) revert TextTooLong();
        _checkProfiles(profiles);
        bytes32 streamHash = keccak256(bytes(streamId));
        uint256 live = _liveJob[msg.sender][streamHash];
        if (live != 0) revert StreamHasJob(live);
        uint128 reserve = _narrow(uint256(maxPricePerSegment) * RESERVE_SEGMENTS);
        _debit(msg.sender, reserve);
        jobId = ++jobCount;
        _liveJob[msg.sender][streamHash] = jobId;
        Job storage job = _jobs[jobId];
        job.broadcaster = msg.sender;
        job.state = JobState.Open;
        job.createdAt = uint64(block.number);
        job.expiresAt = uint64(block.number + JOB_BLOCKS);
        job.maxPrice = maxPricePerSegment;
        job.reserved = reserve;
        job.streamHash = streamHash;
        emit JobCreated(
            jobId, msg.sender, streamHash, streamId, profiles, maxPricePerSegment, reserve, job.expiresAt
        );
        _chooseSeed(jobId, job);
    }

    /// Elects the transcoder of an open job by the hash of its seed block; for anyone to call. When that hash is
    /// gone or nobody could be elected, chooses another block instead and returns zero.
    function assign(uint256 jobId) external returns (address winner) {
        Job storage job = _live(jobId);
        if (job.state != JobState.Open) revert WrongState(job.state);
        if (block.number >= job.expiresAt) revert JobExpired();
        uint64 seedBlock = job.seedBlock;
        if (block.number <= seedBlock) revert SeedNotMined(seedBlock);
        bytes32 seed = blockhash(seedBlock);
        uint128 price;
        if (seed != 0) (winner, price) = elect(seed, job.round, job.maxPrice, seedBlock, _excluded[jobId]);
        if (winner == address(0)) {
            _chooseSeed(jobId, job);
            return winner;
        }
        uint32 round = job.round++;
        job.state = JobState.Assigned;
        job.transcoder = winner;
        job.node = _transcoders[winner].node;
        job.assignedAt = uint64(block.number);
        _holdings[jobId][winner].price = price;
        emit JobAssigned(jobId, winner, job.node, price, round, seedBlock, seed);
    }

    /// The holder says that it works on the job. Repeating it changes nothing.
    function acknowledge(uint256 jobId) external {
        Job storage job = _live(jobId);
        if (job.transcoder != msg.sender) revert NotHolder();
        if (job.state == JobState.Acknowledged) return;
        if (block.number >= job.expiresAt) revert JobExpired();
        job.state = JobState.Acknowledged;
        job.worked = true;
        _holdings[jobId][msg.sender].acknowledgedAt = uint64(block.number);
        emit JobAcknowledged(jobId, msg.sender);
    }

    /// Takes a job from its holder, who is not elected for it again. The broadcaster may and the holder itself;
    /// anyone, when it was not acknowledged in time.
    function reassign(uint256 jobId) external {
        Job storage job = _live(jobId);
        address holder = job.transcoder;
        if (holder == address(0)) revert WrongState(job.state);
        if (msg.sender != job.broadcaster && msg.sender != holder) {
            if (job.state == JobState.Acknowledged) revert NotBroadcaster();
            uint256 until = uint256(job.assignedAt) + ACK_BLOCKS;
            if (block.number <= until) revert AckPending(until);
        }
        if (_excluded[jobId].length == MAX_EXCLUDED) revert TooManyRounds();
        _excluded[jobId].push(holder);
        job.transcoder = address(0);
        job.node = 0;
        job.state = JobState.Open;
        emit JobUnassigned(jobId, holder, msg.sender);
        _chooseSeed(jobId, job);
    }

    /// Sets aside more of the broadcaster's balance, and lets the job live for its full time from now on.
    function extendJob(uint256 jobId, uint32 segments) external {
        Job storage job = _ownLive(jobId);
        if (block.number >= job.expiresAt) revert JobExpired();
        if (segments > RESERVE_SEGMENTS) revert TooManySegments();
        uint128 added = _narrow(uint256(job.maxPrice) * segments);
        job.reserved = _narrow(uint256(job.reserved) + added);
        job.expiresAt = uint64(block.number + JOB_BLOCKS);
        _debit(msg.sender, added);
        emit JobExtended(jobId, added, job.reserved, job.expiresAt);
    }

    /// Ends the sender's job. What was done can be claimed for some time; the rest then goes back.
    function endJob(uint256 jobId) external {
        _end(jobId, _ownLive(jobId), EndReason.Ended);
    }

    /// Ends the sender's job that nobody ever acknowledged; all of its reserve goes back at once.
    function cancelJob(uint256 jobId) external {
        Job storage job = _ownLive(jobId);
        if (job.worked) revert WrongState(job.state);
        _end(jobId, job, EndReason.Cancelled);
    }

    /// Ends a job whose time is over; for anyone to call.
    function expireJob(uint256 jobId) external {
        Job storage job = _live(jobId);
        if (block.number < job.expiresAt) revert JobNotExpired(job.expiresAt);
        _end(jobId, job, EndReason.Expired);
    }

    /// Gives back what is left of an ended job's reserve when nothing can be claimed any more; for anyone to call.
    function releaseReserve(uint256 jobId) external {
        Job storage job = _known(jobId);
        if (job.state != JobState.Ended || job.released) revert WrongState(job.state);
        uint256 until = uint256(job.endedAt) + CLAIM_BLOCKS;
        if (block.number <= until) revert ReserveHeld(until);
        _release(jobId, job);
    }

    function jobOf(uint256 jobId) external view returns (Job memory) {
        return _jobs[jobId];
    }

    function excludedOf(uint256 jobId) external view returns (address[] memory) {
        return _excluded[jobId];
    }

    function holdingOf(uint256 jobId, address account) external view returns (Holding memory) {
        return _holdings[jobId][account];
    }

    /// The job of a stream that has not ended; 0 for none.
    function liveJobOf(address broadcaster, string calldata streamId) external view returns (uint256) {
        return _liveJob[broadcaster][keccak256(bytes(streamId))];
    }

    function _known(uint256 jobId) internal view returns (Job storage found) {
        found = _jobs[jobId];
        if (found.state == JobState.None) revert UnknownJob();
    }

    function _live(uint256 jobId) private view returns (Job storage found) {
        found = _known(jobId);
        if (found.state == JobState.Ended) revert WrongState(found.state);
    }

    function _ownLive(uint256 jobId) private view returns (Job storage found) {
        found = _live(jobId);
        if (found.broadcaster != msg.sender) revert NotBroadcaster();
    }

    function _chooseSeed(uint256 jobId, Job storage open) private {
        open.seedBlock = uint64(block.number + 1);
        emit SeedChosen(jobId, open.seedBlock);
    }

    function _end(uint256 jobId, Job storage ending, EndReason reason) private {
        ending.state = JobState.Ended;
        ending.endedAt = uint64(block.number);
        delete _liveJob[ending.broadcaster][ending.streamHash];
        emit JobEnded(jobId, reason);
        if (!ending.worked) _release(jobId, ending);
    }

    function _release(uint256 jobId, Job storage ended) private {
        uint128 amount = ended.reserved;
        ended.reserved = 0;
        ended.released = true;
        emit ReserveReleased(jobId, amount);
        _credit(ended.broadcaster, amount);
    }
}
