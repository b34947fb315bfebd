package read

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// metaField is the field that a meta expression loads, the zero Field if it is not
// understood. The functions below do the same for other expressions.
func metaField(k expr.MetaKey) filters.Field {
	switch k {
	case expr.MetaKeyIIFNAME:
		return filters.Field{Name: filters.InLink, Len: unix.IFNAMSIZ}
	case expr.MetaKeyOIFNAME:
		return filters.Field{Name: filters.OutLink, Len: unix.IFNAMSIZ}
	case expr.MetaKeyIIF:
		return filters.Field{Name: "iif", Len: 4}
	case expr.MetaKeyOIF:
		return filters.Field{Name: "oif", Len: 4}
	case expr.MetaKeyL4PROTO:
		return filters.Field{Name: filters.L4Proto, Len: 1}
	case expr.MetaKeyNFPROTO:
		return filters.Field{Name: filters.NFProto, Len: 1}
	case expr.MetaKeyPROTOCOL:
		return filters.Field{Name: filters.EtherType, Len: 2}
	case expr.MetaKeyMARK:
		return filters.Field{Name: filters.MetaMark, Len: 4}
	case expr.MetaKeyPKTTYPE:
		return filters.Field{Name: filters.PktType, Len: 1}
	}
	return filters.Field{}
}

func payloadField(e *expr.Payload) filters.Field {
	headers := map[expr.PayloadBase]filters.Header{
		expr.PayloadBaseLLHeader: filters.LinkHeader, expr.PayloadBaseNetworkHeader: filters.NetworkHeader, expr.PayloadBaseTransportHeader: filters.TransportHeader,
	}
	h, ok := headers[e.Base]
	if !ok {
		return filters.Field{}
	}
	return filters.Field{Header: h, Offset: int(e.Offset), Len: int(e.Len)}
}

func ctField(e *expr.Ct) filters.Field {
	switch e.Key {
	case expr.CtKeySTATE:
		return filters.Field{Name: filters.CTState, Len: 4}
	case expr.CtKeySTATUS:
		return filters.Field{Name: filters.CTStatus, Len: 4}
	case expr.CtKeyMARK:
		return filters.Field{Name: filters.CTMark, Len: 4}
	}
	return filters.Field{}
}

func fibField(e *expr.Fib) filters.Field {
	switch {
	case e.ResultADDRTYPE && e.FlagSADDR:
		return filters.Field{Name: filters.SrcType, Len: 4}
	case e.ResultADDRTYPE && e.FlagDADDR:
		return filters.Field{Name: filters.DstType, Len: 4}
	case e.ResultOIF && e.FlagSADDR && !e.FlagDADDR:
		return filters.Field{Name: filters.SrcRoute, Len: 4}
	}
	return filters.Field{}
}

// nativeNumber is a number in the host's byte order, 0 where there are no four bytes.
func nativeNumber(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
