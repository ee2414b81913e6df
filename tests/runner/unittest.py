"""The part of unittest that our tests use, for MicroPython, which has none of its own."""

import sys


class SkipTest(Exception):
    pass


class _Raises:
    def __init__(self, expected):
        self.expected = expected
        self.exception = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            raise AssertionError("%s not raised" % self.expected.__name__)
        self.exception = error
        return issubclass(kind, self.expected)


class _SubTest:
    def __init__(self, case, label):
        self.case = case
        self.label = label

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, Exception) and not issubclass(kind, SkipTest):
            print("FAIL in", self.label)
            sys.print_exception(error)
            self.case._failed = True
            return True
        return False


class TestCase:
    _failed = False

    def setUp(self):
        pass

    def tearDown(self):
        pass

    def fail(self, message="failed"):
        raise AssertionError(message)

    def skipTest(self, reason):
        raise SkipTest(reason)

    def subTest(self, *args, **kwargs):
        return _SubTest(self, args or kwargs)

    def assertTrue(self, value, message=None):
        if not value:
            raise AssertionError(message or "not true: %r" % (value,))

    def assertFalse(self, value, message=None):
        if value:
            raise AssertionError(message or "not false: %r" % (value,))

    def assertEqual(self, first, second, message=None):
        if not first == second:
            raise AssertionError(message or "%r != %r" % (first, second))

    def assertNotEqual(self, first, second, message=None):
        if first == second:
            raise AssertionError(message or "%r == %r" % (first, second))

    def assertIs(self, first, second, message=None):
        if first is not second:
            raise AssertionError(message or "%r is not %r" % (first, second))

    def assertIsNone(self, value, message=None):
        self.assertIs(value, None, message)

    def assertIsNotNone(self, value, message=None):
        if value is None:
            raise AssertionError(message or "unexpectedly None")

    def assertIn(self, member, container, message=None):
        if member not in container:
            raise AssertionError(message or "%r not in %r" % (member, container))

    def assertNotIn(self, member, container, message=None):
        if member in container:
            raise AssertionError(message or "%r in %r" % (member, container))

    def assertIsInstance(self, value, kind, message=None):
        if not isinstance(value, kind):
            self.fail(message or "%r is no %r" % (value, kind))

    def assertGreater(self, first, second, message=None):
        if not first > second:
            raise AssertionError(message or "%r <= %r" % (first, second))

    def assertGreaterEqual(self, first, second, message=None):
        if not first >= second:
            raise AssertionError(message or "%r < %r" % (first, second))

    def assertLess(self, first, second, message=None):
        if not first < second:
            raise AssertionError(message or "%r >= %r" % (first, second))

    def assertLessEqual(self, first, second, message=None):
        if not first <= second:
            raise AssertionError(message or "%r > %r" % (first, second))

    def assertRaises(self, expected, function=None, *args):
        context = _Raises(expected)
        if function is None:
            return context
        with context:
            function(*args)
        return None


def run(modules):
    """Run every test of the named modules; return (tests run, tests failed, tests skipped)."""
    ran = failed = skipped = 0
    for name in modules:
        module = __import__(name)
        for attribute in dir(module):
            case = getattr(module, attribute)
            if not (isinstance(case, type) and issubclass(case, TestCase) and case is not TestCase):
                continue
            for method in dir(case):
                if not method.startswith("test"):
                    continue
                ran += 1
                test = case()
                label = "%s.%s.%s" % (name, attribute, method)
                try:
                    test.setUp()
                    try:
                        getattr(test, method)()
                    finally:
                        test.tearDown()
                except SkipTest as reason:
                    skipped += 1
                    print("skipped", label, reason)
                    continue
                except Exception as error:
                    print("FAIL", label)
                    sys.print_exception(error)
                    test._failed = True
                if test._failed:
                    failed += 1
    return ran, failed, skipped
