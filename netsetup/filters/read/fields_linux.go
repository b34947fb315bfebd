package filters

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// metaField is what a meta expression loads, the zero Field if that is not understood.
func metaField(k expr.MetaKey) Field {
	switch k {
	case expr.MetaKeyIIFNAME:
		return Field{Name: inLink, Len: unix.IFNAMSIZ}
	case expr.MetaKeyOIFNAME:
		return Field{Name: outLink, Len: unix.IFNAMSIZ}
	case expr.MetaKeyIIF:
		return Field{Name: "iif", Len: 4}
	case expr.MetaKeyOIF:
		return Field{Name: "oif", Len: 4}
	case expr.MetaKeyL4PROTO:
		return Field{Name: l4Proto, Len: 1}
	case expr.MetaKeyNFPROTO:
		return Field{Name: nfProto, Len: 1}
	case expr.MetaKeyPROTOCOL:
		return Field{Name: etherType, Len: 2}
	case expr.MetaKeyMARK:
		return Field{Name: mark, Len: 4}
	case expr.MetaKeyPKTTYPE:
		return Field{Name: pktType, Len: 1}
	}
	return Field{}
}

func payloadField(e *expr.Payload) Field {
	headers := map[expr.PayloadBase]Header{
		expr.PayloadBaseLLHeader: LinkHeader, expr.PayloadBaseNetworkHeader: NetworkHeader, expr.PayloadBaseTransportHeader: TransportHeader,
	}
	h, ok := headers[e.Base]
	if !ok {
		return Field{}
	}
	return Field{Header: h, Offset: int(e.Offset), Len: int(e.Len)}
}

func ctField(e *expr.Ct) Field {
	switch e.Key {
	case expr.CtKeySTATE:
		return Field{Name: ctState, Len: 4}
	case expr.CtKeySTATUS:
		return Field{Name: ctStatus, Len: 4}
	case expr.CtKeyMARK:
		return Field{Name: ctMark, Len: 4}
	}
	return Field{}
}

func fibField(e *expr.Fib) Field {
	switch {
	case e.ResultADDRTYPE && e.FlagSADDR:
		return Field{Name: srcType, Len: 4}
	case e.ResultADDRTYPE && e.FlagDADDR:
		return Field{Name: dstType, Len: 4}
	case e.ResultOIF && e.FlagSADDR && !e.FlagDADDR:
		return Field{Name: srcRoute, Len: 4}
	}
	return Field{}
}

func nativeNumber(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
