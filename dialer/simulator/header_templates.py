"""The channel variables that are the same on every call, as a real switch had them.

Measured on FreeSWITCH 1.11.3-dev with a carrier and softphones on loopback. `__NUMBER__`, `__CALLER__` and
`__GATEWAY__` are filled in per channel. They are here for their size and their shape: newlines, colons, percent
signs and angle brackets that a reader must survive.
"""

from __future__ import annotations

from dialer.simulator.wire import Template

# A call to a carrier, before any media.
_CUSTOMER_CREATED = {
    "sip_gateway_name": "__GATEWAY__",
    "sip_local_network_addr": "127.0.0.1",
    "sip_profile_name": "gateway",
    "video_media_flow": "disabled",
    "text_media_flow": "disabled",
    "sip_destination_url": "sip:__NUMBER__@127.0.0.1:5091",
    "rtp_use_codec_string": "PCMU,PCMA",
    "local_media_ip": "127.0.0.1",
    "local_media_port": "27180",
    "advertised_media_ip": "127.0.0.1",
    "audio_media_flow": "sendrecv",
    "rtp_local_sdp_str": (
        "v=0\r\no=FreeSWITCH 1795189240 1795189241 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4"
        " 127.0.0.1\r\nt=0 0\r\nm=audio 27180 RTP/AVP 0 8 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtp"
        "map:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:13"
        " CN/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    ),
    "sip_outgoing_contact_uri": "<sip:gw+__GATEWAY__@127.0.0.1:5080;transport=udp;gw=__GATEWAY__>",
    "sip_req_uri": "__NUMBER__@127.0.0.1:5091",
    "sip_to_host": "127.0.0.1:5091",
    "sip_from_host": "127.0.0.1",
    "sofia_profile_name": "external",
    "recovery_profile_name": "external",
    "sofia_profile_url": "sip:mod_sofia@127.0.0.1:5080",
}

# A call to a carrier that has media.
_CUSTOMER_MEDIA = {
    "sip_gateway_name": "__GATEWAY__",
    "sip_profile_name": "gateway",
    "sip_destination_url": "sip:__NUMBER__@127.0.0.1:5091",
    "rtp_local_sdp_str": (
        "v=0\r\no=FreeSWITCH 1795189240 1795189241 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4"
        " 127.0.0.1\r\nt=0 0\r\nm=audio 27180 RTP/AVP 0 8 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtp"
        "map:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:13"
        " CN/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    ),
    "sip_outgoing_contact_uri": "<sip:gw+__GATEWAY__@127.0.0.1:5080;transport=udp;gw=__GATEWAY__>",
    "sip_req_uri": "__NUMBER__@127.0.0.1:5091",
    "sofia_profile_name": "external",
    "recovery_profile_name": "external",
    "sofia_profile_url": "sip:mod_sofia@127.0.0.1:5080",
    "sip_reply_port": "5091",
    "sip_network_port": "5091",
    "sip_recover_contact": "<sip:127.0.0.1:5091>",
    "sip_full_via": "SIP/2.0/UDP 127.0.0.1:5080;rport;branch=z9hG4bKQeB6pcpgBra9Q",
    "sip_recover_via": "SIP/2.0/UDP 127.0.0.1:5080;rport;branch=z9hG4bKQeB6pcpgBra9Q",
    "sip_full_from": "<sip:__CALLER__@127.0.0.1>;tag=8pjg1gBa2SXXr",
    "sip_full_to": "<sip:__NUMBER__@127.0.0.1:5091>;tag=13177C7",
    "sip_to_port": "5091",
    "sip_to_uri": "__NUMBER__@127.0.0.1:5091",
    "sip_contact_port": "5091",
    "sip_contact_uri": "nobody@127.0.0.1:5091",
    "sip_to_tag": "13177C7",
    "sip_from_tag": "8pjg1gBa2SXXr",
    "sip_cseq": "123054418",
    "sip_call_id": "dd06bf7b-5fda-1240-f89a-5edf9ce253a0",
    "switch_r_sdp": (
        "v=0\r\no=c 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50000 RTP"
        "/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    ),
    "local_media_port": "27180",
    "rtp_use_ssrc": "2775789052",
    "remote_media_port": "50000",
}

# A call to a softphone, before any media.
_PHONE_CREATED = {
    "sip_local_network_addr": "127.0.0.1",
    "sip_profile_name": "internal",
    "video_media_flow": "disabled",
    "text_media_flow": "disabled",
    "sip_destination_url": "sip:__NUMBER__@127.0.0.1:7000",
    "dialed_user": "__NUMBER__",
    "dialed_domain": "127.0.0.1",
    "sip_invite_domain": "127.0.0.1",
    "presence_id": "__NUMBER__@127.0.0.1",
    "rtp_use_codec_string": "PCMU,PCMA",
    "local_media_ip": "127.0.0.1",
    "local_media_port": "40606",
    "advertised_media_ip": "127.0.0.1",
    "audio_media_flow": "sendrecv",
    "rtp_local_sdp_str": (
        "v=0\r\no=FreeSWITCH 1795175813 1795175814 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4"
        " 127.0.0.1\r\nt=0 0\r\nm=audio 40606 RTP/AVP 0 8 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtp"
        "map:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:13"
        " CN/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    ),
    "sip_outgoing_contact_uri": "<sip:mod_sofia@127.0.0.1:5060>",
    "sip_req_uri": "__NUMBER__@127.0.0.1:7000",
    "sip_to_host": "127.0.0.1:7000",
    "sip_from_host": "127.0.0.1",
    "sofia_profile_name": "internal",
    "recovery_profile_name": "internal",
    "sofia_profile_url": "sip:mod_sofia@127.0.0.1:5060",
}

# A call to a softphone that has media.
_PHONE_MEDIA = {
    "sip_profile_name": "internal",
    "sip_destination_url": "sip:__NUMBER__@127.0.0.1:7000",
    "dialed_user": "__NUMBER__",
    "dialed_domain": "127.0.0.1",
    "sip_invite_domain": "127.0.0.1",
    "presence_id": "__NUMBER__@127.0.0.1",
    "rtp_local_sdp_str": (
        "v=0\r\no=FreeSWITCH 1795175813 1795175814 IN IP4 127.0.0.1\r\ns=FreeSWITCH\r\nc=IN IP4"
        " 127.0.0.1\r\nt=0 0\r\nm=audio 40606 RTP/AVP 0 8 101 13\r\na=rtpmap:0 PCMU/8000\r\na=rtp"
        "map:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtpmap:13"
        " CN/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    ),
    "sip_outgoing_contact_uri": "<sip:mod_sofia@127.0.0.1:5060>",
    "sip_req_uri": "__NUMBER__@127.0.0.1:7000",
    "sofia_profile_name": "internal",
    "recovery_profile_name": "internal",
    "sofia_profile_url": "sip:mod_sofia@127.0.0.1:5060",
    "sip_reply_port": "7000",
    "sip_network_port": "7000",
    "sip_recover_contact": "<sip:127.0.0.1:7000>",
    "sip_full_via": "SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKj3NNrm8U82tNQ",
    "sip_recover_via": "SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKj3NNrm8U82tNQ",
    "sip_full_from": "<sip:__CALLER__@127.0.0.1>;tag=4r2QFrK0703vH",
    "sip_full_to": "<sip:__NUMBER__@127.0.0.1:7000>;tag=11524A5",
    "sip_to_port": "7000",
    "sip_to_uri": "__NUMBER__@127.0.0.1:7000",
    "sip_contact_port": "7000",
    "sip_contact_uri": "nobody@127.0.0.1:7000",
    "sip_to_tag": "11524A5",
    "sip_from_tag": "4r2QFrK0703vH",
    "sip_cseq": "123054417",
    "sip_call_id": "dc67636b-5fda-1240-f89a-5edf9ce253a0",
    "switch_r_sdp": (
        "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP"
        "/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    ),
    "local_media_port": "40606",
    "rtp_use_ssrc": "1392766075",
    "remote_media_port": "40000",
    "user_context": "agents",
}

# What both have once there is media.
_MEDIA = {
    "video_media_flow": "disabled",
    "text_media_flow": "disabled",
    "audio_media_flow": "sendrecv",
    "sip_local_network_addr": "127.0.0.1",
    "sip_reply_host": "127.0.0.1",
    "sip_network_ip": "127.0.0.1",
    "sip_from_user": "__CALLER__",
    "sip_from_uri": "__CALLER__@127.0.0.1",
    "sip_from_host": "127.0.0.1",
    "sip_to_user": "__NUMBER__",
    "sip_to_host": "127.0.0.1",
    "sip_contact_user": "nobody",
    "sip_contact_host": "127.0.0.1",
    "ep_codec_string": "CORE_PCM_MODULE.PCMU@8000h@20i@64000b",
    "rtp_use_codec_string": "PCMU,PCMA",
    "remote_video_media_flow": "inactive",
    "remote_text_media_flow": "inactive",
    "remote_audio_media_flow": "sendrecv",
    "rtp_audio_recv_pt": "0",
    "rtp_use_codec_name": "PCMU",
    "rtp_use_codec_rate": "8000",
    "rtp_use_codec_ptime": "20",
    "rtp_use_codec_channels": "1",
    "rtp_last_audio_codec_string": "PCMU@8000h@20i@1c",
    "read_codec": "PCMU",
    "original_read_codec": "PCMU",
    "read_rate": "8000",
    "original_read_rate": "8000",
    "write_codec": "PCMU",
    "write_rate": "8000",
    "dtmf_type": "info",
    "local_media_ip": "127.0.0.1",
    "advertised_media_ip": "127.0.0.1",
    "rtp_use_timer_name": "soft",
    "rtp_use_pt": "0",
    "remote_media_ip": "127.0.0.1",
}

# What a 180 adds.
_RINGING = {
    "sip_reply_host": "127.0.0.1",
    "sip_reply_port": "5091",
    "sip_network_ip": "127.0.0.1",
    "sip_network_port": "5091",
    "sip_recover_contact": "<sip:127.0.0.1:5091>",
    "sip_full_via": "SIP/2.0/UDP 127.0.0.1:5080;rport;branch=z9hG4bKQeB6pcpgBra9Q",
    "sip_recover_via": "SIP/2.0/UDP 127.0.0.1:5080;rport;branch=z9hG4bKQeB6pcpgBra9Q",
    "sip_full_from": "<sip:__CALLER__@127.0.0.1>;tag=8pjg1gBa2SXXr",
    "sip_full_to": "<sip:__NUMBER__@127.0.0.1:5091>;tag=13177C7",
    "sip_from_user": "__CALLER__",
    "sip_from_uri": "__CALLER__@127.0.0.1",
    "sip_to_user": "__NUMBER__",
    "sip_to_port": "5091",
    "sip_to_uri": "__NUMBER__@127.0.0.1:5091",
    "sip_contact_user": "nobody",
    "sip_contact_port": "5091",
    "sip_contact_uri": "nobody@127.0.0.1:5091",
    "sip_contact_host": "127.0.0.1",
    "sip_to_tag": "13177C7",
    "sip_from_tag": "8pjg1gBa2SXXr",
    "sip_cseq": "123054418",
    "sip_call_id": "dd06bf7b-5fda-1240-f89a-5edf9ce253a0",
}

# The counters of a call that is over.
_REPORT = {
    "last_hold_epoch": "0",
    "last_hold_uepoch": "0",
    "hold_accum_seconds": "0",
    "hold_accum_usec": "0",
    "hold_accum_ms": "0",
    "resurrect_epoch": "0",
    "resurrect_uepoch": "0",
    "flow_billsec": "6",
    "flow_billmsec": "6100",
    "flow_billusec": "6100017",
    "rtp_audio_in_raw_bytes": "0",
    "rtp_audio_in_media_bytes": "0",
    "rtp_audio_in_packet_count": "0",
    "rtp_audio_in_media_packet_count": "0",
    "rtp_audio_in_skip_packet_count": "192",
    "rtp_audio_in_jitter_packet_count": "0",
    "rtp_audio_in_dtmf_packet_count": "0",
    "rtp_audio_in_cng_packet_count": "0",
    "rtp_audio_in_flush_packet_count": "0",
    "rtp_audio_in_largest_jb_size": "0",
    "rtp_audio_in_jitter_min_variance": "0.00",
    "rtp_audio_in_jitter_max_variance": "0.00",
    "rtp_audio_in_jitter_loss_rate": "0.00",
    "rtp_audio_in_jitter_burst_rate": "0.00",
    "rtp_audio_in_mean_interval": "0.00",
    "rtp_audio_in_flaw_total": "0",
    "rtp_audio_in_quality_percentage": "100.00",
    "rtp_audio_in_mos": "4.50",
    "rtp_audio_out_raw_bytes": "24424",
    "rtp_audio_out_media_bytes": "24424",
    "rtp_audio_out_packet_count": "142",
    "rtp_audio_out_media_packet_count": "142",
    "rtp_audio_out_skip_packet_count": "0",
    "rtp_audio_out_dtmf_packet_count": "0",
    "rtp_audio_out_cng_packet_count": "0",
    "rtp_audio_rtcp_packet_count": "0",
    "rtp_audio_rtcp_octet_count": "0",
}


def _template(variables: dict[str, str]) -> Template:
    return Template([(f"variable_{name}", value) for name, value in variables.items()])


CUSTOMER_CREATED = _template(_CUSTOMER_CREATED)
CUSTOMER_ANSWERED = _template(_CUSTOMER_MEDIA)
PHONE_CREATED = _template(_PHONE_CREATED)
PHONE_ANSWERED = _template(_PHONE_MEDIA)
MEDIA = _template(_MEDIA)
RINGING = _template(_RINGING)
REPORT = _template(_REPORT)
