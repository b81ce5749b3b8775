// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What accounts own in the ledger. Everything due to anyone is credited here, and leaves only when its owner
/// takes it: no payment can fail for somebody else's fault.
abstract contract Balances {
    event Credited(address indexed account, uint256 amount, uint256 balance);
    event Debited(address indexed account, uint256 amount, uint256 balance);
    event Withdrawn(address indexed account, uint256 amount);

    error NothingSent();
    error BalanceTooLow(uint256 needed, uint256 available);
    error PaymentFailed();
    error AmountTooLarge();

    /// Free for use or withdrawal.
    mapping(address account => uint256) public balanceOf;
    /// Slashed for good; nobody can have it.
    uint256 public burned;

    /// Adds what is sent to the sender's balance.
    function deposit() external payable {
        if (msg.value == 0) revert NothingSent();
        _credit(msg.sender, msg.value);
    }

    /// Pays out a part of the sender's balance.
    function withdraw(uint256 amount) external {
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        if (!paid) revert PaymentFailed();
    }

    function _credit(address account, uint256 amount) internal {
        if (amount == 0) return;
        balanceOf[account] += amount;
        emit Credited(account, amount, balanceOf[account]);
    }

    function _debit(address account, uint256 amount) internal {
        uint256 available = balanceOf[account];
        if (amount > available) revert BalanceTooLow(amount, available);
        if (amount == 0) return;
        balanceOf[account] = available - amount;
        emit Debited(account, amount, available - amount);
    }

    function _narrow(uint256 amount) internal pure returns (uint128) {
        if (amount > type(uint128).max) revert AmountTooLarge();
        return uint128(amount);
    }
}
