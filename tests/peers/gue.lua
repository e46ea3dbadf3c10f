-- SPDX-License-Identifier: MIT OR Apache-2.0
--
-- GUE for tshark, which knows none: both variants of draft-ietf-intarea-gue-09, data packets without extension fields.
-- Whatever else arrives on its port is malformed.

local gue = Proto("gue", "Generic UDP Encapsulation")
local wrong = ProtoExpert.new("gue.wrong", "not GUE as this project uses it", expert.group.MALFORMED, expert.severity.ERROR)
gue.experts = { wrong }

local families = { [4] = Dissector.get("ip"), [41] = Dissector.get("ipv6") }
local versions = { [4] = families[4], [6] = families[41] }

function gue.dissector(bytes, packet, tree)
    local first = bytes(0, 1):uint()
    local variant = bit32.rshift(first, 6)
    local inner, length = nil, 0
    if variant == 0 and bytes:len() >= 4 and first == 0 and bytes(2, 2):uint() == 0 then
        inner, length = families[bytes(1, 1):uint()], 4
    elseif variant == 1 then
        inner = versions[bit32.rshift(first, 4)]
    end
    local item = tree:add(gue, bytes(0, length), "Generic UDP Encapsulation, variant " .. variant)
    if inner == nil then
        item:add_proto_expert_info(wrong)
    else
        inner:call(bytes(length):tvb(), packet, tree)
    end
end

DissectorTable.get("udp.port"):add(6080, gue)
