"""How services are declared, resolved and refused: fields, names, classes, and wrong arguments."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Optional, Protocol, TypeVar

import pytest

import kaiju_app
from kaiju_app import Application, Health, Scheduler, Service, ServiceState, service
from kaiju_app.errors import DependencyError, InvalidArgument, KaijuError, ServiceStartFailed, WrongState
from support.reading import nothing

if TYPE_CHECKING:
    from nowhere import Database as HiddenDatabase  # type: ignore[import-not-found]

T = TypeVar("T")

HERE = {"__module__": __name__}


class Cache(Service):
    pass


class RedisCache(Cache):
    pass


class Queue(Service):
    pass


class Pool(Service, Generic[T]):
    pass


class Speaks(Protocol):
    def speak(self) -> str: ...


class Worker(Service):
    pass


@dataclass
class ByType(Service):
    cache: Cache = service()


@dataclass
class ByUnion(Service):
    cache: Cache | None = service()


@dataclass
class ByOptional(Service):
    cache: Optional[Cache] = service()  # noqa: UP045


@dataclass
class ByQuoted(Service):
    cache: Optional["Cache"] = service()  # noqa: UP037, UP045


@dataclass
class ByName(Service):
    cache: Cache = service("hot")


@dataclass
class Unless(Service):
    cache: Cache | None = service(required=False)


@dataclass
class UnlessNamed(Service):
    cache: Cache | None = service("hot", required=False)


async def wired(*services: Any, **kws: Any) -> Application:
    """Start and stop an application of *services*. Their fields keep their values."""
    app = Application("shop", services, **kws)
    async with app:
        assert app.state is ServiceState.READY
    return app


async def problems(*services: Any, **kws: Any) -> str:
    """Return why *services* do not fit together. Nothing must have been started."""
    inits: list[Service] = []

    @dataclass(eq=False)
    class Sentinel(Service):
        async def init(self) -> None:
            inits.append(self)

    app = Application("shop", [Sentinel(), *services], **kws)
    with pytest.raises(DependencyError) as caught:
        await app.start()
    assert inits == []
    assert app.state is ServiceState.CLOSED
    assert not app.scheduler.started
    assert str(caught.value) == f"application 'shop' cannot start: {'; '.join(caught.value.problems)}"
    return str(caught.value)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Make a module from source text; without ``from __future__`` unless the text has it."""

    def make(source: str) -> Any:
        made = ModuleType("made_for_the_test")
        monkeypatch.setitem(sys.modules, made.__name__, made)
        head, _, rest = textwrap.dedent(source).partition("---\n")
        lines = [
            head,
            "from dataclasses import dataclass",
            "from typing import Optional, Union",
            "from kaiju_app import Service, service",
            "",
            rest,
        ]
        exec(compile("\n".join(lines), "made_for_the_test.py", "exec", dont_inherit=True), made.__dict__)
        return made

    return make


# --- found by class or by name ---


@pytest.mark.smoke
@pytest.mark.parametrize("kind", [ByType, ByUnion, ByOptional, ByQuoted, Unless])
async def test_a_service_is_found_by_the_class_that_the_field_is_annotated_with(kind: Any) -> None:
    one, cache = kind(), Cache()
    await wired(one, cache, Queue())
    assert one.cache is cache


@pytest.mark.parametrize("kind", [ByType, ByUnion, ByOptional])
async def test_a_subclass_will_do(kind: Any) -> None:
    one, cache = kind(), RedisCache()
    await wired(cache, one)
    assert one.cache is cache


async def test_a_base_class_will_not_do() -> None:
    @dataclass
    class Web(Service):
        cache: RedisCache = service()

    assert "Web.cache needs a service of type RedisCache, but there is none" in await problems(Web(), Cache())


@pytest.mark.parametrize("kind", [ByName, UnlessNamed])
async def test_a_service_is_found_by_name_among_many_of_its_class(kind: Any) -> None:
    one, cold, hot = kind(), Cache(name="cold"), RedisCache(name="hot")
    await wired(one, cold, hot)
    assert one.cache is hot


async def test_a_service_is_found_by_its_default_name_even_the_numbered_one() -> None:
    @dataclass
    class Web(Service):
        first: Cache = service("Cache")
        second: Cache = service("Cache#2")

    web, first, second = Web(), Cache(), Cache()
    await wired(web, first, second)
    assert (web.first is first, web.second is second) == (True, True)


async def test_a_name_with_another_class_than_annotated_is_refused() -> None:
    text = await problems(ByName(name="web"), Queue(name="hot"))
    assert "web.cache asks for 'hot' as Cache, but it is of type Queue" in text


async def test_a_service_that_is_missing_is_named_with_the_way_out() -> None:
    text = await problems(ByType(name="web"), Queue())
    assert "web.cache needs a service of type Cache, but there is none: add one, or service(required=False)" in text
    text = await problems(ByName(name="web"), Queue(name="cold"))
    assert "web.cache needs a service named 'hot', but there is Sentinel, cold" in text


async def test_all_that_is_missing_is_told_at_once() -> None:
    text = await problems(ByType(name="web"), ByName(name="api"), optional_services=["ghost"])
    assert [part in text for part in ("web.cache", "api.cache", "ghost")] == [True] * 3


async def test_a_class_that_more_than_one_service_has_is_refused_with_the_candidates() -> None:
    text = await problems(ByType(name="web"), Cache(name="cold"), RedisCache(name="hot"), Queue())
    assert "web.cache could be any of cold, hot, all of type Cache: name one, service('cold')" in text


async def test_an_ambiguous_class_is_refused_even_if_it_is_not_required() -> None:
    assert "could be any of" in await problems(Unless(name="web"), Cache(), Cache())


async def test_what_is_not_required_and_missing_is_none() -> None:
    one, other = Unless(), UnlessNamed()
    await wired(one, other, Queue())
    assert one.cache is None
    assert other.cache is None


async def test_a_missing_service_that_need_not_be_waited_for_is_still_required() -> None:
    @dataclass
    class Web(Service):
        cache: Cache = service(nowait=True)

    assert "Web.cache needs a service of type Cache" in await problems(Web())


async def test_either_of_two_classes_will_do() -> None:
    @dataclass
    class Web(Service):
        store: Cache | Queue | None = service()

    web, queue = Web(), Queue()
    await wired(web, queue)
    assert web.store is queue
    assert "could be any of Cache, Queue, all of type Cache | Queue" in await problems(Web(), Cache(), Queue())


async def test_a_class_with_parameters_is_found_by_the_class() -> None:
    @dataclass
    class Web(Service):
        pool: Pool[int] = service()

    web, pool = Web(), Pool[int]()
    await wired(web, pool)
    assert web.pool is pool


async def test_a_service_that_wraps_another_one_of_its_own_class_means_the_other_one() -> None:
    @dataclass
    class Retrying(Cache):
        inner: Cache = service()

    outer, inner = Retrying(), Cache()
    app = await wired(outer, inner)
    assert outer.inner is inner
    assert app.services == (outer, inner)


async def test_a_service_that_asks_for_itself_by_name_is_refused() -> None:
    assert "hot.cache asks for 'hot', which is this service itself" in await problems(ByName(name="hot"))


async def test_a_circle_is_refused_saying_who_needs_whom() -> None:
    @dataclass
    class A(Service):
        next: Service = service("b")

    @dataclass
    class B(Service):
        next: Service = service("c")

    @dataclass
    class C(Service):
        next: Service = service("a", required=False)

    text = await problems(C(name="c"), A(name="a"), B(name="b"), Queue())
    circles = ["a needs b needs c needs a", "b needs c needs a needs b", "c needs a needs b needs c"]
    assert any(circle in text for circle in circles)
    assert "service(nowait=True)" in text


async def test_a_circle_with_a_field_that_does_not_wait_is_none() -> None:
    @dataclass
    class A(Service):
        next: Service = service("b")

    @dataclass
    class B(Service):
        next: Service = service("a", nowait=True)

    a, b = A(name="a"), B(name="b")
    await wired(a, b)
    assert a.next is b
    assert b.next is a


async def test_two_fields_may_hold_the_same_service() -> None:
    @dataclass
    class Web(Service):
        by_type: Cache = service()
        by_name: Cache = service("hot")

    web, cache = Web(), Cache(name="hot")
    app = await wired(web, cache)
    assert web.by_type is web.by_name is cache
    assert (await app.inspect())["services"][0]["needs"] in (["hot", "hot"], ["hot"])  # type: ignore[index]


async def test_fields_are_inherited() -> None:
    @dataclass
    class Web(ByType):
        size: int = 3

    class Plain(ByType):
        """Not a dataclass, and without fields of its own it need not be one."""

    web, plain, cache = Web(4), Plain(), Cache()
    await wired(web, plain, cache)
    assert web.cache is plain.cache is cache


async def test_a_subclass_may_ask_for_more_than_its_base() -> None:
    @dataclass
    class Web(ByType):
        cache: RedisCache = service()

    web, cold, hot = Web(), Cache(), RedisCache()
    await wired(web, cold, hot)
    assert web.cache is hot


# --- annotations that are hard to resolve ---


@pytest.mark.smoke
@pytest.mark.parametrize("head", ["", "from __future__ import annotations"], ids=["objects", "texts"])
@pytest.mark.parametrize(
    "annotation",
    [
        "Cache",
        "Optional[Cache]",
        "Union[Cache, None]",
        "Cache | None",
        '"Cache"',
        'Optional["Cache"]',
        '"Cache | None"',
    ],
)
async def test_annotations_may_be_texts_or_objects(module: Callable[[str], Any], head: str, annotation: str) -> None:
    made = module(
        f"""
        {head}
        ---
        class Cache(Service): ...

        @dataclass
        class Web(Service):
            cache: {annotation} = service()
        """
    )
    web, cache = made.Web(), made.Cache()
    await wired(web, cache)
    assert web.cache is cache


@pytest.mark.parametrize("head", ["", "from __future__ import annotations"], ids=["objects", "texts"])
async def test_annotations_of_a_base_class_are_read_in_its_own_module(module: Callable[[str], Any], head: str) -> None:
    made = module(
        f"""
        {head}
        ---
        class Depot(Service): ...

        @dataclass
        class Base(Service):
            depot: Depot = service()
        """
    )

    @dataclass
    class Web(made.Base):  # type: ignore[misc, name-defined]
        size: int = 3

    web, depot = Web(), made.Depot()
    await wired(web, depot)
    assert web.depot is depot


async def test_classes_local_to_a_function_are_found_without_text_annotations(module: Callable[[str], Any]) -> None:
    made = module(
        """
        ---
        def make():
            class Cache(Service): ...

            @dataclass
            class Web(Service):
                cache: Cache = service()

            return Web(), Cache()
        """
    )
    web, cache = made.make()
    await wired(web, cache)
    assert web.cache is cache


async def test_a_class_local_to_a_function_is_not_known_by_its_text_and_the_way_out_is_told() -> None:
    class Local(Service):
        pass

    @dataclass
    class Web(Service):
        local: Local = service()

    text = await problems(Web(), Local())
    assert "Web.local is annotated with Local, which is not defined at run time (NameError" in text
    assert "service('its name')" in text

    @dataclass
    class Named(Service):
        local: Local = service("Local")

    named, local = Named(), Local()
    await wired(named, local)
    assert named.local is local


async def test_a_class_imported_for_type_checkers_only_needs_a_name() -> None:
    @dataclass
    class Web(Service):
        database: HiddenDatabase = service()

    text = await problems(Web(), Queue(name="database"))
    assert "Web.database is annotated with HiddenDatabase, which is not defined at run time" in text
    assert "import it at run time, or service('its name')" in text

    @dataclass
    class Named(Service):
        database: HiddenDatabase = service("database")
        other: list[HiddenDatabase] = field(default_factory=list)

    named, queue = Named(), Queue(name="database")
    await wired(named, queue)
    assert named.database is queue


async def test_another_annotation_that_is_not_known_at_run_time_disturbs_nothing() -> None:
    @dataclass
    class Web(Service):
        rows: list[HiddenDatabase] = field(default_factory=list)
        cache: Cache = service()

    web, cache = Web(), Cache()
    await wired(web, cache)
    assert web.cache is cache


@pytest.mark.parametrize("annotation", ["Any", "Speaks", "T", "'Cache | Any'", "3", "Callable[[], int]", "list[int]"])
async def test_an_annotation_that_tells_no_class_of_a_service_is_refused(annotation: str) -> None:
    web = dataclasses.make_dataclass("Web", [("it", annotation, service())], bases=(Service,), namespace=HERE)
    text = await problems(web())
    assert "Web.it " in text


@pytest.mark.parametrize("annotation", ["Any", "Speaks", "Service", "object"])
async def test_an_annotation_that_tells_little_is_enough_with_a_name(annotation: str) -> None:
    web = dataclasses.make_dataclass("Web", [("it", annotation, service("hot"))], bases=(Service,), namespace=HERE)
    one, cache = web(), Cache(name="hot")
    await wired(one, cache)
    assert one.it is cache


# --- what a service class may look like ---


def test_a_class_with_fields_that_is_no_dataclass_is_refused_by_name() -> None:
    class Web(Service):
        cache: Cache = service()

    with pytest.raises(InvalidArgument, match=r"Web.*@dataclass|@dataclass.*Web"):
        Application("shop", [Web(), Cache()])


def test_a_mixin_with_fields_that_is_no_dataclass_is_refused_by_name() -> None:
    class Mixin:
        cache: Cache = service()

    @dataclass
    class Web(Mixin, Service):
        pass

    with pytest.raises(InvalidArgument, match=r"Mixin.*cache = service\(\)|cache = service\(\).*Mixin"):
        Application("shop", [Web(), Cache()])


def test_own_fields_are_positional_and_those_of_the_base_are_by_keyword() -> None:
    @dataclass
    class Web(Service):
        host: str
        port: int = 80
        cache: Cache = service()

    web = Web("localhost", 8080, name="web")
    assert (web.host, web.port, web.name) == ("localhost", 8080, "web")
    with pytest.raises(TypeError):
        Web("localhost", 8080, "web")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Web("localhost", cache=Cache())  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Cache("hot")  # type: ignore[call-arg]


def test_a_service_without_fields_needs_no_decorator_and_no_arguments() -> None:
    app = Application("shop", [Cache()])
    assert [each.name for each in app.services] == ["Cache"]


async def test_a_subclass_may_have_an_init_of_its_own_that_calls_nobody() -> None:
    class Old(Service):
        def __init__(self, size: int) -> None:
            self.size = size

    @dataclass
    class Web(Service):
        old: Service = service("Old")

    old, web = Old(3), Web()
    app = await wired(web, old)
    assert (old.name, old.app, old.logger.name, old.state) == ("Old", app, "shop.Old", ServiceState.CLOSED)
    assert web.old is old


async def test_a_subclass_with_fields_may_have_an_init_of_its_own_that_calls_nobody() -> None:
    @dataclass(init=False)
    class Old(Service):
        cache: Cache = service()

        def __init__(self, size: int) -> None:
            self.size = size

    old, cache = Old(3), Cache()
    await wired(old, cache)
    assert old.cache is cache


async def test_a_subclass_may_have_a_post_init_of_dataclasses() -> None:
    @dataclass
    class Web(Service):
        host: str
        url: str = field(init=False)
        cache: Cache = service()

        def __post_init__(self) -> None:
            self.url = f"http://{self.host}"

    web, cache = Web("shop"), Cache()
    await wired(web, cache)
    assert (web.url, web.cache is cache) == ("http://shop", True)


async def test_a_dataclass_with_slots_will_do() -> None:
    @dataclass(slots=True)
    class Web(Service):
        size: int = 3
        cache: Cache = service()

    web, cache = Web(), Cache()
    await wired(web, cache)
    assert web.cache is cache
    assert web.state is ServiceState.CLOSED


async def test_a_keyword_only_dataclass_will_do() -> None:
    @dataclass(kw_only=True)
    class Web(Service):
        size: int
        cache: Cache = service()

    web, cache = Web(size=3, name="web"), Cache()
    await wired(web, cache)
    assert web.cache is cache


async def test_a_field_called_state_does_not_break_what_is_shown() -> None:
    @dataclass
    class Address(Service):
        state: str = "Ohio"  # type: ignore[assignment]

    address = Address()
    async with Application("shop", [address]) as app:
        assert (await app.inspect())["services"][0]["state"] == "READY"  # type: ignore[index]
        assert address.state == "Ohio"


# --- services that are equal by value or cannot be compared ---


@dataclass
class Twin(Service):
    size: int = 3


class Terror(Service):
    """Cannot be compared, shown or hashed."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __repr__(self) -> str:
        raise AttributeError("shown")

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")


@dataclass
class Unset(Service):
    """A service as in the README: before ``init()`` a comparison does not work."""

    task: object = field(init=False)

    async def init(self) -> None:
        self.task = self.app.scheduler.schedule_task(nothing, 60)


class Rude(Service):
    def __repr__(self) -> str:
        raise ZeroDivisionError


async def test_services_that_are_equal_by_value_are_both_kept_and_wired_apart() -> None:
    @dataclass
    class Web(Service):
        one: Twin = service("one")
        two: Twin = service("two")

    one, two, web = Twin(name="same"), Twin(name="same"), Web()
    assert one == two
    one.name, two.name = "one", "two"
    app = await wired(web, one, two)
    assert (web.one is one, web.two is two) == (True, True)
    assert [each is wanted for each, wanted in zip(app.services, [web, one, two], strict=True)] == [True] * 3


@pytest.mark.parametrize("kind", [Terror, Unset])
async def test_services_are_never_compared_shown_or_hashed(kind: type[Service]) -> None:
    one, two = kind(), kind()

    @dataclass(eq=False)
    class Web(Service):
        one: Service = service(kind.__name__)
        two: Service | None = service(f"{kind.__name__}#2", required=False)

    web = Web()
    app = Application("shop", [web, one, two], optional_services=[kind.__name__])
    for _ in range(2):
        async with app:
            assert web.one is one
            assert web.two is two
            assert (await app.inspect())["healthy"] is True
            repr(app)


async def test_a_service_that_cannot_be_shown_can_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Terror):
        async def init(self) -> None:
            raise OSError("no route")

    with pytest.raises(ServiceStartFailed, match="'Broken' failed in init: OSError: no route"):
        await Application("shop", [Terror(), Broken()]).start()
    async with Application("shop", [Terror(), Broken()], optional_services=["Broken"]) as app:
        assert (await app.inspect())["healthy"] is True
    assert "Broken" in caplog.text


@pytest.mark.parametrize("kind", [Terror, Unset, Rude])
def test_every_refusal_survives_a_service_that_cannot_be_shown(kind: type[Service]) -> None:
    one = kind()
    app = Application("shop", [one])
    other = Application("other")
    with pytest.raises(InvalidArgument, match="twice"):
        app.add_services(one)
    with pytest.raises(InvalidArgument, match="in one application only: this one is in <Application 'shop'"):
        other.add_services(one)
    with pytest.raises(InvalidArgument, match="unique"):
        app.add_services(kind(name=kind.__name__))
    with pytest.raises(InvalidArgument, match="scheduler"):
        Application("shop", scheduler=kind())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="optional_services"):
        Application("shop", optional_services=[kind()])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="services"):
        Application("shop", kind())  # type: ignore[arg-type]


# --- names, loggers, the application ---


def test_names_default_to_the_class_and_are_numbered() -> None:
    app = Application("shop", [Worker(), Queue(), Worker()])
    app.add_services(Worker())
    assert [each.name for each in app.services] == ["Worker", "Queue", "Worker#2", "Worker#3"]


def test_a_name_that_is_given_is_never_taken_by_a_default() -> None:
    app = Application("shop", [Worker(), Worker(name="Worker"), Worker(), Worker(name="Worker#2")])
    assert [each.name for each in app.services] == ["Worker#3", "Worker", "Worker#4", "Worker#2"]


@pytest.mark.parametrize("together", [True, False])
def test_a_name_that_is_given_twice_is_refused(together: bool) -> None:
    one, two = Worker(name="w"), Queue(name="w")
    with pytest.raises(InvalidArgument, match=r"name must be unique .* got 'w'"):
        Application("shop", [one, two]) if together else Application("shop", [one]).add_services(two)


@pytest.mark.parametrize("name", [None, 5, b"x", ["w"]])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name must be a string"):
        Application("shop", [Worker(name=name)])


def test_loggers_are_named_after_the_application_and_the_service() -> None:
    own = logging.getLogger("mine")
    services = [Worker(), Worker(), Worker(name="w"), Worker(logger=own)]
    Application("shop", services)
    assert [each.logger.name for each in services] == ["shop.Worker", "shop.Worker#2", "shop.w", "mine"]


def test_a_service_knows_its_application_when_it_was_added() -> None:
    one = Worker()
    app = Application("shop", [one])
    assert one.app is app
    assert one.app.scheduler is app.scheduler


def test_a_service_in_no_application_says_so_and_what_to_do() -> None:
    one = Worker()
    with pytest.raises(
        AttributeError,
        match=r"app\.scheduler: this service is not part of an application yet; pass it to Application\(",
    ):
        _ = one.app.scheduler
    assert one.state is ServiceState.CLOSED
    one.logger.debug("has one all the same")
    assert repr(one) == "<Worker, CLOSED>"


def test_what_a_service_shows_is_not_the_whole_application() -> None:
    app = Application("shop", [ByType(), Cache()])
    assert repr(app.services[0]) == "<ByType, CLOSED>"


# --- checks of arguments ---


@pytest.mark.parametrize("phase", ["init", "health", "post_init", "close"])
def test_a_phase_that_is_not_async_is_refused_by_name(phase: str) -> None:
    kind = type("Web", (Service,), {phase: lambda self: None})
    with pytest.raises(InvalidArgument, match=rf"async {phase}\(\): async def {phase}\(self\)"):
        Application("shop", [kind()])


def test_a_phase_that_is_a_generator_is_refused() -> None:
    class Web(Service):
        async def init(self) -> Any:  # type: ignore[override]
            yield 1

    with pytest.raises(InvalidArgument, match=r"async def init\(self\)"):
        Application("shop", [Web()])


async def test_a_phase_may_be_decorated() -> None:
    calls: list[str] = []

    def noted(method: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(method)
        def wrapper(self: Any) -> Any:
            calls.append(method.__name__)
            return method(self)

        return wrapper

    class Web(Service):
        @noted
        async def init(self) -> None: ...

        @noted
        async def close(self) -> None: ...

    await wired(Web())
    assert calls == ["init", "close"]


async def test_a_phase_may_be_a_class_method() -> None:
    calls: list[str] = []

    class Web(Service):
        @classmethod
        async def init(cls) -> None:  # type: ignore[override]
            calls.append(cls.__name__)

    await wired(Web())
    assert calls == ["Web"]


def test_a_class_instead_of_an_instance_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidArgument, match=r"must be instances: write Worker\(\)"):
        Application("shop", [Worker])  # type: ignore[list-item]


@pytest.mark.parametrize("what", [None, 3, "Worker", nothing, object(), int])
def test_what_is_no_service_is_refused(what: Any) -> None:
    with pytest.raises(InvalidArgument, match="services must be instances of subclasses of Service"):
        Application("shop", [what])


@pytest.mark.parametrize("together", [True, False])
def test_the_same_instance_twice_is_refused(together: bool) -> None:
    one = Worker()
    with pytest.raises(InvalidArgument, match="services must not contain the same service twice"):
        Application("shop", [one, one]) if together else Application("shop", [one]).add_services(one)


def test_a_service_of_another_application_is_refused_naming_it() -> None:
    one = Worker()
    Application("shop", [one])
    with pytest.raises(InvalidArgument, match="this one is in <Application 'shop'"):
        Application("other", [one])
    assert one.app.name == "shop"


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Worker,
        lambda: None,
        lambda: Worker(name="taken"),
        lambda: Worker(name=5),  # type: ignore[arg-type]
        lambda: Application("other", [Worker()]).services[0],
        lambda: type("Plain", (Service,), {"close": lambda self: None})(),
        lambda: type("Undecorated", (Service,), {"cache": service(), "__annotations__": {"cache": Cache}})(),
    ],
    ids=["class", "none", "name", "no text", "other application", "plain close", "no dataclass"],
)
def test_when_one_is_refused_none_is_added_or_changed(bad: Callable[[], Any]) -> None:
    app = Application("shop", [Worker(name="taken")])
    before, after = Worker(), Queue()
    with pytest.raises(InvalidArgument):
        app.add_services(before, bad(), after)
    assert [each.name for each in app.services] == ["taken"]
    for each in (before, after):
        assert each.name == ""
        assert each.logger.name == "kaiju_app.service"
        with pytest.raises(AttributeError):
            _ = each.app.name
    app.add_services(before, after)
    assert [each.name for each in app.services] == ["taken", "Worker", "Queue"]


def test_services_of_an_application_that_was_refused_are_free_for_another_one() -> None:
    one = Worker()
    with pytest.raises(InvalidArgument):
        Application("shop", [one, None])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument):
        Application("shop", [one], service_start_timeout_s=-1)
    assert Application("shop", [one]).services == (one,)


async def test_services_are_added_before_the_start_or_after_the_stop_only(scheduler: Scheduler) -> None:
    refused: list[str] = []

    class Nosy(Service):
        async def init(self) -> None:
            self.try_it()

        async def close(self) -> None:
            self.try_it()

        def try_it(self) -> None:
            with pytest.raises(WrongState, match=r"add_services\(\): application 'shop' is") as caught:
                self.app.add_services(Worker())
            refused.append(str(caught.value))

    app = Application("shop", [Nosy()], scheduler=scheduler)
    async with app:
        with pytest.raises(WrongState, match="READY; add them before it starts"):
            app.add_services(Worker())
    assert [next(word for word in text.split() if word.isupper() or ";" in word) for text in refused] == [
        "STARTING;",
        "CLOSING;",
    ]
    late = Worker()
    app.add_services(late)
    async with app:
        assert late.state is ServiceState.READY


async def test_services_cannot_be_changed_through_what_is_shown() -> None:
    services: list[Service] = [Worker()]
    app = Application("shop", services)
    services.append(Queue())
    assert len(app.services) == 1
    assert isinstance(app.services, tuple)


def test_services_may_come_from_a_generator() -> None:
    app = Application("shop", (Worker() for _ in range(2)))
    assert [each.name for each in app.services] == ["Worker", "Worker#2"]


@pytest.mark.parametrize("name", ["", None, 5, b"shop", ["shop"]])
def test_an_application_needs_a_name(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="name must be a non-empty string"):
        Application(name)


@pytest.mark.parametrize("services", [None, 5, Worker(), Worker])
def test_services_must_be_a_list(services: Any) -> None:
    with pytest.raises(InvalidArgument, match="services"):
        Application("shop", services)


@pytest.mark.parametrize("argument", ["service_start_timeout_s", "service_close_timeout_s", "post_init_timeout_s"])
@pytest.mark.parametrize(
    "value", [0, 0.0, -1, float("nan"), float("inf"), True, "5", None, 1e12, timedelta(0), timedelta(-1), [5]]
)
def test_a_limit_that_is_none_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=argument):
        Application("shop", **{argument: value})


@pytest.mark.parametrize("argument", ["service_start_timeout_s", "service_close_timeout_s", "post_init_timeout_s"])
@pytest.mark.parametrize("value", [1, 0.001, 1e9, timedelta(seconds=1), timedelta(days=3)])
def test_a_limit_is_a_number_of_seconds_or_a_timedelta(argument: str, value: Any) -> None:
    Application("shop", **{argument: value})


async def test_a_limit_given_as_a_timedelta_means_the_same(scheduler: Scheduler) -> None:
    class Slow(Service):
        async def init(self) -> None:
            await asyncio.sleep(1000)

    app = Application("shop", [Slow()], scheduler=scheduler, service_start_timeout_s=timedelta(minutes=1))
    with pytest.raises(ServiceStartFailed, match="not done within 60 s"):
        await app.start()


@pytest.mark.parametrize("value", ["cache", b"cache", None, 5, [5], [None], [Worker()], [Worker], {5}])
def test_optional_services_must_be_names(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="optional_services"):
        Application("shop", [Worker(name="cache")], optional_services=value)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, dict.fromkeys, iter])
async def test_optional_services_of_any_kind_are_taken_or_refused_but_not_forgotten(kind: Callable[..., Any]) -> None:
    class Broken(Service):
        async def init(self) -> None:
            raise OSError

    try:
        app = Application("shop", [Broken()], optional_services=kind(["Broken"]))
    except InvalidArgument:
        return
    async with app:
        assert app.state is ServiceState.READY


async def test_optional_services_that_do_not_exist_are_refused_before_anything_starts() -> None:
    text = await problems(Worker(), optional_services=["Worker", "cahce"])
    assert "optional_services names cahce, but there is Sentinel, Worker" in text


async def test_optional_services_may_be_named_before_they_are_added(scheduler: Scheduler) -> None:
    app = Application("shop", optional_services=["late"], scheduler=scheduler)
    with pytest.raises(DependencyError, match="names late, but there is none"):
        await app.start()
    app.add_services(Worker(name="late"))
    async with app:
        assert app.state is ServiceState.READY


@pytest.mark.parametrize("value", [5, "scheduler", Scheduler, object(), Worker()])
def test_a_scheduler_must_be_one(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="scheduler must be a Scheduler, or None"):
        Application("shop", scheduler=value)


async def test_two_applications_cannot_run_one_scheduler(scheduler: Scheduler) -> None:
    one, two = Application("one", scheduler=scheduler), Application("two", scheduler=scheduler)
    async with one:
        with pytest.raises(WrongState, match="the scheduler of application 'two' is started already"):
            await two.start()
        assert two.state is ServiceState.CLOSED
        assert scheduler.started
    async with two:
        assert scheduler.started


@pytest.mark.parametrize("argument", ["scheduler", "service_start_timeout_s", "optional_services"])
def test_everything_but_name_and_services_is_by_keyword(argument: str) -> None:
    with pytest.raises(TypeError):
        Application("shop", [], None)  # type: ignore[misc]
    with pytest.raises(TypeError):
        Application("shop", **{f"{argument}_": None})  # type: ignore[arg-type]


# --- Health ---


def test_health_is_healthy_as_long_as_it_has_no_errors() -> None:
    assert Health().healthy
    assert Health(stats={"size": 3}).healthy
    assert not Health(["no disk"]).healthy
    assert (Health().errors, Health().stats) == ((), {})


def test_health_with_one_text_for_a_list_is_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidArgument, match=r"errors must be a list of sentences: Health\(errors=\[\.\.\.\]\)"):
        Health("no disk")
    with pytest.raises(InvalidArgument, match="errors"):
        Health(errors="")


def test_health_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Health().errors = ["x"]  # type: ignore[misc]


# --- the package ---


def test_everything_public_is_there() -> None:
    assert {"Application", "Health", "Service", "ServiceState", "service"} <= set(kaiju_app.__all__)
    assert all(hasattr(kaiju_app, name) for name in kaiju_app.__all__)


@pytest.mark.parametrize("kind", [DependencyError, ServiceStartFailed])
def test_what_ends_a_start_is_an_error_of_the_package(kind: type[Exception]) -> None:
    assert issubclass(kind, KaijuError)
