import errno
import threading

from genrm_lightning import quiet


def died_of(error):
    def work():
        raise error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_threads_that_die_of_a_full_disk_are_silent_and_others_are_not(monkeypatch, capfd):
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    quiet.quiet_threads()
    hook = threading.excepthook
    quiet.quiet_threads()
    assert threading.excepthook is hook
    died_of(OSError(errno.ENOSPC, "No space left on device"))
    assert capfd.readouterr().err == ""
    died_of(OSError(errno.EACCES, "Permission denied"))
    assert "PermissionError" in capfd.readouterr().err
