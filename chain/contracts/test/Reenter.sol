// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface ILedger {
    function deposit() external payable;
    function withdraw(uint256 amount) external;
}

/// Calls back into the ledger when it is paid, to be paid twice.
contract Reenter {
    ILedger private immutable LEDGER;
    bytes private _call;
    /// Calls back that the ledger let pass.
    uint256 public passed;
    /// Calls back that it refused.
    uint256 public refused;

    constructor(ILedger ledger) {
        LEDGER = ledger;
    }

    function run(bytes calldata callBack, uint256 amount) external payable {
        LEDGER.deposit{value: msg.value}();
        _call = callBack;
        LEDGER.withdraw(amount);
    }

    receive() external payable {
        if (_call.length == 0) return;
        bytes memory callBack = _call;
        delete _call;
        (bool ok,) = address(LEDGER).call(callBack);
        if (ok) ++passed;
        else ++refused;
    }
}
