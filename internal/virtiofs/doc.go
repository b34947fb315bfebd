// Package virtiofs shares folders of the host with a guest. It starts one virtiofsd for each
// folder, without rights beyond that folder; QEMU talks to it over a socket that it is given.
//
// [Start] starts qnet again, as a stage between qnet and virtiofsd, in a user namespace of
// one user, and in mount, PID, network, IPC and UTS namespaces of its own. The stage,
// [Main], makes a root directory that has nothing but the folder and the host's programs,
// gives up what rights it has, and becomes virtiofsd:
//
//   - The one user is the caller on the host, and [Owner] for the guest. A file that
//     any user of the guest creates belongs to the caller on the host: a seccomp filter makes
//     the calls by which virtiofsd becomes the guest's user do nothing (see filter.go).
//   - The folder is mounted there without set-user-ID programs and devices, and read-only
//     where that was asked for: neither the guest nor virtiofsd can change it.
//   - No set-user-ID bit can be set, and no owner be changed.
//
// virtiofsd ends with the process that started it, and with QEMU.
//
// There are two programs of the name, with options of their own: one in C, which was part of
// QEMU until version 8.0, and one in Rust. The stage asks the program which of them it is.
package virtiofs
