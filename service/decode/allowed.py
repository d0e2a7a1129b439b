"""What FFmpeg may open: real containers, and the decoders that clips in them use.

FFmpeg also reads playlists, scripts and session descriptions, which name other files and hosts, whatever the
upload is called. None of them is listed here, so they are not even probed.
"""

_CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf",
    "ogg", "gif", "wav", "w64", "aiff", "caf", "au", "mp3", "flac", "aac", "ac3", "eac3", "amr", "amrnb",
    "amrwb",
)  # fmt: skip

VIDEO_DECODERS = frozenset((
    "h264", "hevc", "vvc", "libdav1d", "av1", "libvpx-vp8", "libvpx-vp9", "vp8", "vp9", "vp6", "vp6f",
    "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h263",
    "h263p", "flv", "theora", "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "prores", "dnxhd", "dvvideo",
    "ffv1", "huffyuv", "ffvhuff", "utvideo", "cinepak", "indeo3", "indeo4", "indeo5", "svq1", "svq3",
    "qtrle", "rawvideo", "gif",
))  # fmt: skip

AUDIO_DECODERS = frozenset((
    "aac", "aac_latm", "mp1float", "mp2float", "mp2", "mp3float", "mp3", "mp3on4float", "opus", "libopus",
    "vorbis", "libvorbis", "flac", "alac", "ac3", "eac3", "dca", "amrnb", "amrwb", "libopencore_amrnb",
    "libopencore_amrwb", "wmav1", "wmav2", "wmapro", "nellymoser", "libspeex", "speex", "gsm", "gsm_ms",
    "qdm2", "mace6", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw",
    "pcm_bluray", "pcm_dvd", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha",
    "adpcm_g726", "g722",
))  # fmt: skip

OPEN_OPTIONS = {
    "format_whitelist": ",".join(_CONTAINERS),
    "codec_whitelist": ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS)),
    "protocol_whitelist": "file",
}
