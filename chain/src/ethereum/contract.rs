//! The contract's calls, events and errors, generated from its ABI. What they mean stands
//! in `contracts/src/*.sol`.

ethers_contract::abigen!(Headwater, "contracts/artifacts/Headwater.json");
