// Package journal keeps on disk what a network needs after its keeper: how to undo the
// network after a crash, and what the next start of it should have again.
//
// The journal of a network (Journal) holds the plan, the steps that were added while the
// network ran, and the steps of each VM's ports. The keeper writes it before the first step
// and before every step that it adds, always the whole file and by a rename, so that a crash
// at any time leaves a journal that tells of all that was done, and perhaps of more. Undo of
// a step that was not done changes nothing.
//
// The format is that of the steps' types and JSON tags (package step). A new qnet reads the
// journal of an older one, because VMs may run while the user upgrades; testdata has those of
// commit 4927c03. Without a journal that can be read, UndoByMarks removes what bears the
// network's marks.
//
// Steps name links, and other programs rename links. So the journal has the identity of each
// uplink, too (host.Identity). Follow, which comes before every use of a journal that was
// read, and whenever a link changes while the network runs, gives all its steps the names that
// the uplinks have by now. The journal of an older qnet has no identities: its names stand.
//
// OriginalSysctls and WithoutShared look into the journals of all networks of a run
// directory: several networks may need the same sysctl of the host. The first remembers the
// host's value, and the last one puts it back.
//
// The state directory keeps what outlives a boot: the host's salt and the subnets of its
// networks.
//
// A Journal belongs to the one keeper of its network, which calls its methods one at a time.
// The functions that read files may be called by any process at any time.
package journal
