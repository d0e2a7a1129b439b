"""The typed errors of the service. They know nothing of HTTP.

    AhseError
    ├── MediaError                a clip can't be decoded into frames and a waveform
    │   ├── EmptyFileError        empty_file        nothing was sent
    │   ├── NotMediaError         not_media         not in a container format that the service reads
    │   ├── TruncatedMediaError   truncated_media   the file ends before its index
    │   ├── NoTracksError         no_usable_tracks  neither the visual nor the audio track is usable
    │   ├── ClipTooLongError      clip_too_long     more seconds than allowed
    │   ├── ClipTooLargeError     too_many_pixels   more pixels or memory than allowed
    │   ├── TooManySegmentsError  too_many_segments more segments than allowed
    │   ├── DecodeTimeoutError    decode_timeout    more time than allowed
    │   └── DecodeCrashedError    decode_failed     the decoding process died
    ├── LabelError                the candidate labels are not acceptable
    │   ├── NoLabelsError         no_labels         none were given
    │   ├── InvalidLabelError     invalid_label     empty, too long, control characters
    │   ├── AmbiguousLabelsError  ambiguous_labels  one value that looks like a comma-joined list
    │   ├── DuplicateLabelsError  duplicate_labels  the same label twice after normalisation
    │   ├── TooManyLabelsError    too_many_labels   more than allowed
    │   ├── TooMuchTextError      too_much_text     prompts of more characters than allowed
    │   ├── InvalidTemplateError  invalid_template  a prompt template without its placeholder
    │   └── UnknownLabelError     unknown_label     the label set has no such label
    ├── LabelSetError             a label set can't be read or changed as asked
    │   ├── UnknownLabelSetError  unknown_label_set no set of that name
    │   ├── InvalidNameError      invalid_name      not acceptable as the name of a label set
    │   └── PreconditionFailedError precondition_failed  the set was changed since the client read it
    ├── JobError                  a job can't be read or changed as asked
    │   ├── UnknownJobError       unknown_job       no job of that id, or somebody else's
    │   ├── JobExpiredError       job_expired       its results have been deleted
    │   ├── JobInterruptedError   job_interrupted   work on a clip was broken off again and again
    │   └── ClipLostError         clip_lost         the file of a clip is gone
    ├── RequestError              the request itself can't be understood
    │   ├── MalformedBodyError    malformed_body    not the multipart form or JSON it claims to be
    │   ├── InvalidRequestError   invalid_request   readable, but not of the documented form
    │   ├── MissingFileError      missing_file      no file part
    │   ├── InvalidOptionError    invalid_option    an option's value is not acceptable
    │   ├── BodyTooLargeError     body_too_large    more bytes than allowed
    │   ├── UploadStalledError    upload_stalled    no more of the body arrived in time
    │   ├── UrlRefusedError       url_refused       not a URL that clips are fetched from
    │   └── FetchFailedError      fetch_failed      the server of a URL does not deliver a clip
    ├── AccessError               the client may not do that
    │   ├── UnauthenticatedError  unauthenticated   no key, or one that is not valid
    │   ├── ForbiddenError        forbidden         the key lacks a scope
    │   ├── QuotaExceededError    quota_exceeded    the key owns as much as it may
    │   ├── RateLimitedError      rate_limited      more requests or bytes in a time than allowed
    │   ├── HostNotAllowedError   host_not_allowed  the request names another host than the service's
    │   ├── OriginNotAllowedError origin_not_allowed  a page of another site sent the request
    │   ├── WrongPortError        wrong_port        answered on the service's other port
    │   └── UnknownKeyError       unknown_key       no API key of that id
    ├── SettingsError             invalid_settings  the service can't start as it is configured
    ├── BundleError               a bundle can't be used
    │   ├── BundleInvalidError    bundle_invalid    damaged, incomplete, or not what its manifest says
    │   └── UnknownBundleError    unknown_bundle    no bundle of that name is loaded
    └── UnavailableError          the service can't handle the request now
        ├── OverloadedError         overloaded          the service works on as much as it can
        ├── DeviceUnavailableError  device_unavailable  the configured device can't be used
        ├── DecoderUnavailableError decoder_unavailable no clip can be decoded now, or decoding stood still
        ├── UploadUnavailableError  upload_unavailable  uploads can't be put on disk
        ├── ClipUnavailableError    clip_unavailable    the file of a clip can't be opened or read
        ├── StoreUnavailableError   store_unavailable   a store does not answer
        ├── NotReadyError           not_ready           a check of the service's parts has failed
        └── RequestTimeoutError     request_timeout     the answer took longer than allowed

Messages are written for the person who sent the request: what is wrong and what to do. They contain no path,
no traceback and no text of a library. service/api/problems.py maps each error to its HTTP status.
"""

from typing import ClassVar


class AhseError(Exception):
    """Base of all errors that the service raises on purpose.

    Attributes:
        code: Stable snake_case name of the kind of error, which clients may rely on.
        message: What is wrong and what to do, for the user.
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def lines(self) -> tuple[str, ...]:
        """The message for a terminal: a name in it must not look like a line of its own."""
        return (self.message,)


class MediaError(AhseError):
    """A clip can't be decoded into frames and a waveform."""

    code = "media_error"


class EmptyFileError(MediaError):
    """The file is empty."""

    code = "empty_file"


class NotMediaError(MediaError):
    """The file is not in a container format that the service reads."""

    code = "not_media"


class TruncatedMediaError(MediaError):
    """The file ends before the index that locates its frames."""

    code = "truncated_media"


class NoTracksError(MediaError):
    """Neither the visual nor the audio track is usable; the message gives the reason for each."""

    code = "no_usable_tracks"


class ClipTooLongError(MediaError):
    """The clip lasts longer than the limit."""

    code = "clip_too_long"


class ClipTooLargeError(MediaError):
    """The clip exceeds the limits on pixels or memory."""

    code = "too_many_pixels"


class TooManySegmentsError(MediaError):
    """The clip has too many segments of the requested length; the message names a length that is allowed."""

    code = "too_many_segments"


class DecodeTimeoutError(MediaError):
    """Decoding took longer than the limit."""

    code = "decode_timeout"


class DecodeCrashedError(MediaError):
    """The process that decoded the clip died."""

    code = "decode_failed"


class LabelError(AhseError):
    """The candidate labels are not acceptable."""

    code = "label_error"


class NoLabelsError(LabelError):
    """No label was given."""

    code = "no_labels"


class InvalidLabelError(LabelError):
    """A label or prompt is empty, too long, or contains control characters."""

    code = "invalid_label"


class AmbiguousLabelsError(LabelError):
    """One value with commas in it, which may be a single label or a list."""

    code = "ambiguous_labels"


class DuplicateLabelsError(LabelError):
    """Two labels are the same after normalisation."""

    code = "duplicate_labels"


class TooManyLabelsError(LabelError):
    """More labels than allowed."""

    code = "too_many_labels"


class TooMuchTextError(LabelError):
    """The prompts of all labels have more characters together than allowed."""

    code = "too_much_text"


class InvalidTemplateError(LabelError):
    """A prompt template is empty, too long, or has no placeholder."""

    code = "invalid_template"


class UnknownLabelError(LabelError):
    """The label set has no such label."""

    code = "unknown_label"


class LabelSetError(AhseError):
    """A label set can't be read or changed as asked."""

    code = "label_set_error"


class UnknownLabelSetError(LabelSetError):
    """No label set has that name."""

    code = "unknown_label_set"


class InvalidNameError(LabelSetError):
    """Not acceptable as the name of a label set."""

    code = "invalid_name"


class PreconditionFailedError(LabelSetError):
    """The label set was changed since the client read it."""

    code = "precondition_failed"


class JobError(AhseError):
    """A job can't be read or changed as asked."""

    code = "job_error"


class UnknownJobError(JobError):
    """No job has that id, or it belongs to somebody else."""

    code = "unknown_job"


class JobExpiredError(JobError):
    """The results of the job have been deleted because of their age."""

    code = "job_expired"


class JobInterruptedError(JobError):
    """The service ended, or a part of it failed, each time it worked on a clip of the job."""

    code = "job_interrupted"


class ClipLostError(JobError):
    """The file of a clip is gone before the work on it, with the disk of the replica that took it, say."""

    code = "clip_lost"


class RequestError(AhseError):
    """The request itself can't be understood."""

    code = "request_error"


class MalformedBodyError(RequestError):
    """The body is not the multipart form or the JSON that it claims to be."""

    code = "malformed_body"


class MissingFileError(RequestError):
    """The form has no file part."""

    code = "missing_file"


class InvalidOptionError(RequestError):
    """The value of an option is not acceptable."""

    code = "invalid_option"


class InvalidRequestError(RequestError):
    """The request is readable but does not have the documented form."""

    code = "invalid_request"


class BodyTooLargeError(RequestError):
    """The body has more bytes than allowed."""

    code = "body_too_large"


class UploadStalledError(RequestError):
    """No more of the body arrived within the time limit."""

    code = "upload_stalled"


class UrlRefusedError(RequestError):
    """Clips are not fetched from this URL, or from none at all."""

    code = "url_refused"


class FetchFailedError(RequestError):
    """The server of a URL can't be reached, is too slow, or does not answer with a clip."""

    code = "fetch_failed"


class AccessError(AhseError):
    """The client may not do that."""

    code = "access_error"


class UnauthenticatedError(AccessError):
    """The request has no API key, or one that is not valid."""

    code = "unauthenticated"


class ForbiddenError(AccessError):
    """The key lacks the scope that the address needs."""

    code = "forbidden"


class QuotaExceededError(AccessError):
    """The key would own more than its quota."""

    code = "quota_exceeded"


class RateLimitedError(AccessError):
    """More requests or bytes than allowed in a time.

    Attributes:
        retry_after_s: Seconds until the next may come.
    """

    code = "rate_limited"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class HostNotAllowedError(AccessError):
    """The request is addressed to a host name that the service does not answer to."""

    code = "host_not_allowed"


class OriginNotAllowedError(AccessError):
    """A browser sent the request for a page of another site."""

    code = "origin_not_allowed"


class WrongPortError(AccessError):
    """The address is answered on the other port of the service."""

    code = "wrong_port"


class UnknownKeyError(AccessError):
    """No API key has that id."""

    code = "unknown_key"


class SettingsError(AhseError):
    """The service can't start as it is configured; the message says what to change."""

    code = "invalid_settings"


class BundleError(AhseError):
    """A bundle can't be used."""

    code = "bundle_error"


class BundleInvalidError(BundleError):
    """A bundle is damaged, incomplete, or not what its manifest says."""

    code = "bundle_invalid"


class UnknownBundleError(BundleError):
    """No bundle of that name is loaded."""

    code = "unknown_bundle"


class UnavailableError(AhseError):
    """The service can't handle the request now."""

    code = "unavailable"


class OverloadedError(UnavailableError):
    """The service works on as much as it can; refusing at once is better than an endless wait."""

    code = "overloaded"


class DeviceUnavailableError(UnavailableError):
    """The configured device can't be used."""

    code = "device_unavailable"


class DecoderUnavailableError(UnavailableError):
    """No clip can be decoded now, or decoding stood still: the machine is at fault, not the clip."""

    code = "decoder_unavailable"


class UploadUnavailableError(UnavailableError):
    """Uploads can't be written to disk: no space, or no writable directory."""

    code = "upload_unavailable"


class ClipUnavailableError(UnavailableError):
    """The file of a clip can't be opened or read now, so nobody knows what it holds."""

    code = "clip_unavailable"

    def __init__(
        self,
        message: str = "The clip can't be read now: its file may not be opened, or its disk does not answer. "
        "Check both, or try again later.",
    ) -> None:
        super().__init__(message)


class StoreUnavailableError(UnavailableError):
    """A store of label sets, keys, jobs or embeddings does not answer."""

    code = "store_unavailable"


class NotReadyError(UnavailableError):
    """A part of the service does not work now; the message names it."""

    code = "not_ready"


class RequestTimeoutError(UnavailableError):
    """The answer took longer than allowed, and the work on it was stopped."""

    code = "request_timeout"
